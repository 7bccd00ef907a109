/** Hostile devices with valid credentials. Each is used by one connection at a time. */
import type { Credential } from '../../protocol/frame-types.js'
import type { Random } from './chance.js'

/** A hostile device of the fleet. It has a right to its own messages. */
export interface Suspect {
  device: string
  credential: Credential
  connection: number
}

export interface SuspectsOptions {
  devices: readonly string[]
  tokenOf(device: string): string
  /** The id of a device without a registration; each call gives another one. */
  newDevice(random: Random): string
}

export class Suspects {
  private readonly free: Suspect[]

  constructor(private readonly options: SuspectsOptions) {
    this.free = options.devices.map((device) => this.create(device))
  }

  /** A device without a connection; null if all are connected. */
  take(): Suspect | null {
    return this.free.shift() ?? null
  }

  release(suspect: Suspect): void {
    this.free.push(suspect)
  }

  newDevice(random: Random): Suspect {
    return this.create(this.options.newDevice(random))
  }

  private create(device: string): Suspect {
    return { device, credential: { kind: 'token', token: this.options.tokenOf(device) }, connection: 0 }
  }
}
