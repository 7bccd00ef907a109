/** Hostile devices with good credentials, each used by one connection at a time. */
import type { Credential } from '../../protocol/frame-types.js'
import type { Random } from './chance.js'

/** A device of ours that is hostile: its own messages are its own. */
export interface Suspect {
  device: string
  credential: Credential
  connection: number
}

export interface SuspectsOptions {
  devices: readonly string[]
  tokenOf(device: string): string
  /** A device that nobody knows; each call another one. */
  newDevice(random: Random): string
}

export class Suspects {
  private readonly free: Suspect[]

  constructor(private readonly options: SuspectsOptions) {
    this.free = options.devices.map((device) => this.fresh(device))
  }

  /** One that has no connection now; null where all are busy. */
  take(): Suspect | null {
    return this.free.shift() ?? null
  }

  release(suspect: Suspect): void {
    this.free.push(suspect)
  }

  stranger(random: Random): Suspect {
    return this.fresh(this.options.newDevice(random))
  }

  private fresh(device: string): Suspect {
    return { device, credential: { kind: 'token', token: this.options.tokenOf(device) }, connection: 0 }
  }
}
