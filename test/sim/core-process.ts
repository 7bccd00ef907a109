/**
 * One core process of the simulation: the real delivery core, device requests and tenant directory over a simulated
 * broker. A process that fails to start is started again.
 */
import { Value } from 'typebox/value'
import { CodedError } from '../../protocol/errors.js'
import { startServiceClock } from '../../src/core/cluster/service-time.js'
import { type Delivery, startDelivery } from '../../src/core/delivery/delivery.js'
import { DeviceService } from '../../src/core/devices/device-requests.js'
import { DeviceLimits } from '../../src/core/domain/limits.js'
import { encodeRegistrationId } from '../../src/core/domain/registration-id.js'
import { Directory } from '../../src/core/tenants/directory.js'
import { BrokerError } from '../../src/nats/broker.js'
import type { SimClient } from './client.js'
import { keyring } from './identities.js'
import type { WorldParts } from './parts.js'

const LIMITS = Value.Default(DeviceLimits, {}) as DeviceLimits
const RESTART_MS = 400

export class CoreProcess {
  client: SimClient | null = null
  /** Null while the process is down or still starting. */
  delivery: Delivery | null = null
  private stopParts: (() => Promise<void>) | null = null
  private shouldRun = false

  constructor(
    readonly name: string,
    private readonly world: WorldParts,
  ) {}

  get isUp(): boolean {
    return this.delivery !== null
  }

  start(): void {
    if (this.shouldRun) return
    this.shouldRun = true
    this.boot()
  }

  crash(silently: boolean): void {
    this.shouldRun = false
    this.client?.crash(silently)
    this.forget()
  }

  /** Stops the process in order, as SIGTERM does. */
  stop(): void {
    if (!this.shouldRun || !this.stopParts) return
    this.shouldRun = false
    const { client, stopParts } = this
    this.delivery = null
    this.stopParts = null
    void stopParts()
      .then(() => client?.close())
      .catch((error: unknown) => this.world.fail('internal', `${this.name} cannot stop: ${String(error)}`))
  }

  private boot(): void {
    const client = this.world.broker.brokerFor(this.name)
    client.skewMs = this.world.skews.get(this.name) ?? 0
    this.client = client
    this.run(client).catch((error: unknown) => {
      if (this.client !== client) return
      const isExpected = error instanceof BrokerError || error instanceof CodedError
      if (!isExpected) this.world.fail('internal', `${this.name} cannot start: ${String(error)}`)
      // A real process would exit here, and its supervisor would start it again.
      this.world.trace.note(this.name, `did not start: ${String(error)}`)
      client.crash()
      this.forget()
      this.world.clock.after(RESTART_MS, () => {
        if (this.shouldRun && this.client === null) this.boot()
      })
    })
  }

  private async run(broker: SimClient): Promise<void> {
    const log = this.world.loggerOf(this.name)
    const clock = await startServiceClock(broker, broker.clock, log)
    const { random, plan } = this.world
    const { registrationKeys } = keyring
    const directory = await Directory.start(broker, log)
    const devices = new DeviceService({ broker, directory, registrationKeys, limits: LIMITS, clock, log })
    const delivery = await startDelivery({
      ...{ broker, clock, random, log },
      settings: plan.core,
      split: plan.split,
      registrationIdOf: (address) => encodeRegistrationId(registrationKeys.active, address),
    })
    devices.start()
    this.stopParts = async () => {
      await devices.stop()
      await delivery.stop()
      await directory.stop()
      await clock.stop()
    }
    this.delivery = delivery
    this.world.trace.note(this.name, 'is up')
  }

  private forget(): void {
    this.client = null
    this.delivery = null
    this.stopParts = null
  }
}
