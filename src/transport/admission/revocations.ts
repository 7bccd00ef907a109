/** The set of revoked devices, kept up to date by a watch on the table REVOKED. */
import { Bucket } from '../../../protocol/subjects.js'
import type { Broker, Consumption, TableEntry } from '../../nats/broker.js'

const PREFIX = 'device.'

export class Revocations {
  private readonly devices = new Set<string>()
  private watch: Consumption | null = null

  /** @param onRevoked called for each newly revoked device, which may have a session here. */
  constructor(
    private readonly broker: Broker,
    private readonly onRevoked: (device: string) => void,
  ) {}

  /** Resolves when all present entries are known. */
  async start(): Promise<void> {
    this.watch = await this.broker.table(Bucket.REVOKED).watch(`${PREFIX}>`, (entry) => this.take(entry))
  }

  async stop(): Promise<void> {
    await this.watch?.stop()
  }

  has(device: string): boolean {
    return this.devices.has(device)
  }

  private take({ key, deleted }: TableEntry): void {
    const device = key.slice(PREFIX.length)
    if (deleted) this.devices.delete(device)
    else if (!this.devices.has(device)) {
      this.devices.add(device)
      this.onRevoked(device)
    }
  }
}
