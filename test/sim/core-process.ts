/**
 * One core process of the simulation: the real delivery core, device requests and tenant directory over a simulated
 * broker. A process that fails to start is started again.
 */
import { Value } from 'typebox/value'
import { startServiceClock } from '../../src/core/cluster/service-time.js'
import { type Delivery, startDelivery } from '../../src/core/delivery/delivery.js'
import { DeviceService } from '../../src/core/devices/device-requests.js'
import { DeviceLimits } from '../../src/core/domain/limits.js'
import { encodeRegistrationId } from '../../src/core/domain/registration-id.js'
import { Directory } from '../../src/core/tenants/directory.js'
import type { SimClient } from './client.js'
import { keyring } from './identities.js'
import type { WorldParts } from './parts.js'
import { type Program, SimProcess } from './process.js'

const LIMITS = Value.Default(DeviceLimits, {}) as DeviceLimits

interface DeliveryCore extends Program {
  delivery: Delivery
}

export class CoreProcess extends SimProcess<DeliveryCore, WorldParts> {
  /** Null while the process is down or still starting. */
  get delivery(): Delivery | null {
    return this.program?.delivery ?? null
  }

  protected async run(broker: SimClient): Promise<DeliveryCore> {
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
    const stop = async () => {
      await devices.stop()
      await delivery.stop()
      await directory.stop()
      await clock.stop()
    }
    return { delivery, stop }
  }
}
