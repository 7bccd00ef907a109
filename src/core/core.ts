/** One core process: the delivery core, and its public face where the process has that role. */
import type { Clock } from '../clock.js'
import type { Keyring } from '../keyring.js'
import type { Fabric } from '../nats/broker.js'
import type { Logger } from '../observe/log.js'
import type { Stoppable } from './cluster/lease.js'
import { startDelivery } from './delivery/delivery.js'
import { encodeRegistrationId, type RegistrationAddress } from './domain/registration-id.js'
import { type PublicFaceSettings, startPublicFace } from './front-end.js'
import { CoreFigures } from './metrics.js'
import { startFeeds } from './outcomes/outcomes.js'
import type { CoreSettings } from './settings.js'

export interface CoreOptions {
  fabric: Fabric
  clock: Clock
  /** 0 up to 1, as Math.random. */
  random: () => number
  settings: PublicFaceSettings & {
    core: CoreSettings
    /** store.split */
    split: number
  }
  keyring: Keyring
  log: Logger
  figures?: CoreFigures
}

export interface Core {
  /** Where the API listens; null where this process has no gateway. */
  readonly url: string | null
  readonly port: number | null
  /** Where the admin API listens; null where it does not. */
  readonly adminUrl: string | null
  /** This process's number in message ids. */
  readonly node: number
  stop(): Promise<void>
}

/** Resolves when everything serves. Rejects with FabricError or the listener's error; then nothing is left running. */
export async function startCore(options: CoreOptions): Promise<Core> {
  const { fabric, clock, random, keyring, log, settings, figures = new CoreFigures() } = options
  const { core, split } = settings
  const started: Stoppable[] = []
  const stop = async () => {
    for (const part of started.splice(0).reverse()) await part.stop()
  }
  const registrationKey = keyring.macKey('registration')
  try {
    const shared = {
      ...{ fabric, clock, random, split, log, figures, settings: core },
      registrationIdOf: (address: RegistrationAddress) => encodeRegistrationId(registrationKey, address),
    }
    // First, so that it stops last: what the other parts end on their way out is told as well.
    started.push(await startFeeds({ ...shared, webhooks: settings.webhooks }))
    const delivery = await startDelivery(shared)
    started.push(delivery)
    const { accept, readStatus, cancel, readCounters, listMessages } = delivery
    const { gateway } = core
    const face = await startPublicFace({
      ...{ fabric, keyring, split, accept, readStatus, cancel, readCounters, listMessages },
      ...{ settings, gateway, node: delivery.node, leaseMs: core.leaseMs, clock, log },
    })
    started.push(face)
    return { url: face.url, port: face.port, adminUrl: face.adminUrl, node: delivery.node, stop }
  } catch (error) {
    await stop()
    throw error
  }
}
