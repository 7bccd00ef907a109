/** A service with its devices, as the operations of hold see it. */
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
  /** Those that came. */
  ranges: Range[] = []

  constructor(
    readonly rig: WholeRig,
    readonly instance: Instance,
    readonly progress: Progress,
  ) {
    // One message for one device: each says itself when it was sent.
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

  /** Everything that was accepted, or as long as that may take. */
  async delivered(): Promise<void> {
    await this.devices.until(({ delivered }) => delivered >= this.pusher.accepted, DELIVERY_MS_MAX)
  }
}

/** Of a service, with its devices where there are some. */
export function pidsOf(system: LocalSystem | null, devices: Generators | null): Pids {
  return {
    server: system ? [...system.pids('transport'), ...system.pids('worker')] : [],
    core: system?.pids('core') ?? [],
    nats: system?.pids('nats') ?? [],
    generators: devices?.pids ?? [],
  }
}
