/** The service with its devices, as the operations of hold use it. */
import type { Generators, Range } from '../generator/generators.js'
import { pickDevice } from '../pick.js'
import type { Progress } from '../progress.js'
import { Pusher } from '../pusher.js'
import type { Instance } from '../system/instance.js'
import type { LocalSystem } from '../system/local-system.js'
import type { WholeRig } from '../system/whole.js'
import type { Pids } from './footprint.js'

const DELIVERY_MS_MAX = 90_000

export class HeldService {
  readonly pusher: Pusher
  /** The connected devices. */
  ranges: Range[] = []

  constructor(
    readonly rig: WholeRig,
    readonly instance: Instance,
    readonly progress: Progress,
  ) {
    // One device for each request, so that each message has the stamp of its own due time.
    this.pusher = new Pusher(rig, { connections: 0, batch: 1, ttl: '1h', pick: (n) => pickDevice(n, this.ranges) })
  }

  get devices(): Generators {
    return this.rig.devices
  }

  async counts(): Promise<{ accepted: number; delivered: number; missing: number }> {
    const { accepted } = this.pusher
    const { delivered } = await this.devices.counts()
    return { accepted, delivered, missing: accepted - delivered }
  }

  /** Resolves when every accepted message is delivered, or after the time-out. */
  async delivered(): Promise<void> {
    await this.devices.until(({ delivered }) => delivered >= this.pusher.accepted, DELIVERY_MS_MAX)
  }
}

/** The process ids of a service and of its generators, as far as they exist. */
export function pidsOf(system: LocalSystem | null, devices: Generators | null): Pids {
  return {
    server: system ? [...system.pids('transport'), ...system.pids('worker')] : [],
    core: system?.pids('core') ?? [],
    nats: system?.pids('nats') ?? [],
    generators: devices?.pids ?? [],
  }
}
