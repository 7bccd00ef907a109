/** A device of a fault run: the client library over a state file, which outlives connections, clients and the driver. */
import { join } from 'node:path'
import { type BorealisClient, openClient } from '../../../src/device/index.js'
import type { AppendLog } from '../log.js'
import { type AppRecord, hashOf, type Member, type WireRecord } from '../records.js'
import { Line } from './line.js'

export interface DeviceOptions {
  number: number
  folder: string
  member: Member
  topics: readonly string[]
  enrol: { url: string; enrolmentKey: string }
  url: string
  wire: AppendLog<WireRecord>
  app: AppendLog<AppRecord>
  onGiven(device: number, attempt: number): void
}

/** Where it stands between two connects, as an interactive client would have it on a flaky network. */
const SETTINGS = { fsync: 'never', reconnectBaseMs: 250, reconnectCapMs: 2_000 } as const
const CAUGHT_UP_MS_MAX = 60_000

export class FaultDevice {
  readonly line: Line
  registrationId = ''
  /** As the server knows it; empty before it was ever connected. */
  deviceId = ''
  private client: BorealisClient | null = null

  constructor(private readonly options: DeviceOptions) {
    const { number, wire } = options
    this.line = new Line((id, group) => wire.write({ at: Date.now(), device: number, id: String(id), group }))
  }

  /** Opens the state file (enrolling where it is fresh), connects, and resolves once everything it was owed has come. */
  async connect(): Promise<void> {
    if (this.client) return
    const { folder, number, enrol, url } = this.options
    const client = await openClient({
      state: join(folder, `device-${number}.state`),
      enrol,
      url,
      settings: SETTINGS,
      dial: this.line.dial,
      random: Math.random,
    })
    this.client = client
    this.deviceId = client.deviceId ?? ''
    this.listen(client)
    const caughtUp = new Promise<void>((resolve, reject) => {
      const late = setTimeout(
        () => reject(new Error(`device ${number} was not caught up in ${CAUGHT_UP_MS_MAX / 1000} s`)),
        CAUGHT_UP_MS_MAX,
      )
      client.once('caughtUp', () => {
        clearTimeout(late)
        resolve()
      })
      client.on('closed', ({ code, name, reconnectInMs }) => {
        if (reconnectInMs !== null) return
        clearTimeout(late)
        reject(new Error(`device ${number} was refused for good: ${code} ${name}`))
      })
    })
    client.connect()
    await caughtUp
  }

  /** What it has registered it keeps in its state. */
  async register(): Promise<void> {
    const { member, topics } = this.options
    const [known] = this.client?.registrations ?? []
    const registration = known ?? (await this.client?.register(member.application))
    this.registrationId = registration?.registrationId ?? ''
    if (known) return
    for (const topic of topics) await this.client?.subscribe(topic)
  }

  async disconnect(): Promise<void> {
    const { client } = this
    this.client = null
    await client?.close()
  }

  private listen(client: BorealisClient): void {
    const { number: device, app, onGiven } = this.options
    for (const what of ['notification', 'expired'] as const) {
      client.on(what, ({ id, application, title, message, data, possibleDuplicate: again }) => {
        const attempt = typeof data.attempt === 'number' ? data.attempt : -1
        const hash = hashOf(title, message)
        app.write({
          ...{ what: what === 'expired' ? what : 'given', at: Date.now() },
          ...{ device, id, attempt, application, hash, again },
        })
        onGiven(device, attempt)
      })
    }
    client.on('gap', ({ count, reason }) => app.write({ what: 'gap', at: Date.now(), device, count, reason }))
  }
}
