/**
 * The credentials that are void before their time, watched in the table REVOKED: devices that were revoked, and fleets whose
 * tokens count only from a certain time on.
 */
import { Bucket, revokedDevicePrefix, revokedFleetPrefix } from '../../../protocol/subjects.js'
import type { Broker, Consumption, TableEntry } from '../../nats/broker.js'
import { readFleetMark } from '../../store/revoked.js'

export interface RevocationEvents {
  /** The device may have a session here. */
  device(device: string): void
  /** Devices of the fleet may have sessions here with older tokens. */
  fleet(fleet: string): void
}

export class Revocations {
  private readonly devices = new Set<string>()
  /** Fleet to the time from which on its tokens count. */
  private readonly fleets = new Map<string, number>()
  private watch: Consumption | null = null

  constructor(
    private readonly broker: Broker,
    private readonly on: RevocationEvents,
  ) {}

  /** Resolves when those revoked so far are known. */
  async start(): Promise<void> {
    this.watch = await this.broker.table(Bucket.REVOKED).watch('>', (entry) => this.take(entry))
  }

  async stop(): Promise<void> {
    await this.watch?.stop()
  }

  has(device: string): boolean {
    return this.devices.has(device)
  }

  /** Whether the tokens that the fleet issued at that time are void. */
  isCutOff(fleet: string, issuedAtMs: number): boolean {
    const fromMs = this.fleets.get(fleet)
    return fromMs !== undefined && issuedAtMs < fromMs
  }

  /** Whether a credential that does not name its fleet may be of one whose tokens are void. */
  get hasCutOffs(): boolean {
    return this.fleets.size > 0
  }

  private take({ key, value, deleted }: TableEntry): void {
    if (key.startsWith(revokedDevicePrefix)) this.takeDevice(key.slice(revokedDevicePrefix.length), deleted)
    else if (key.startsWith(revokedFleetPrefix)) {
      const fleet = key.slice(revokedFleetPrefix.length)
      const fromMs = deleted ? null : readFleetMark(value)
      if (fromMs === null) this.fleets.delete(fleet)
      else {
        this.fleets.set(fleet, fromMs)
        this.on.fleet(fleet)
      }
    }
  }

  private takeDevice(device: string, deleted: boolean): void {
    if (deleted) this.devices.delete(device)
    else if (!this.devices.has(device)) {
      this.devices.add(device)
      this.on.device(device)
    }
  }
}
