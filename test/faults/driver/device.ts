/** A device of a fault run: the device library with a state file, from which the device restarts after a kill. */
import { join } from 'node:path'
import { systemClock } from '../../../src/clock.js'
import { type BorealisClient, openClient } from '../../../src/device/index.js'
import type { AppendLog } from '../log.js'
import { type AppRecord, hashOf, type Member, type PresenceRecord, type WireRecord } from '../records.js'
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
  presence: AppendLog<PresenceRecord>
  onShown(device: number, attempt: number): void
}

/** Short reconnect delays, so that a run sees many connections. */
const SETTINGS = { fsync: 'never', reconnectBaseMs: 250, reconnectCapMs: 2_000 } as const
const CAUGHT_UP_MS_MAX = 60_000

export class FaultDevice {
  readonly line: Line
  /** The error of its clock. */
  skewMs = 0
  registrationId = ''
  /** Empty before the first connection. */
  deviceId = ''
  private client: BorealisClient | null = null

  constructor(private readonly options: DeviceOptions) {
    const { number, wire } = options
    this.line = new Line((id, group) => wire.write({ at: Date.now(), device: number, id: String(id), group }))
  }

  /** Opens the state file, enrols if the file is new, connects, and resolves when the device has caught up. */
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
      clock: { ...systemClock, now: () => Date.now() + this.skewMs },
    })
    this.client = client
    this.deviceId = client.deviceId ?? ''
    this.listen(client)
    const caughtUp = new Promise<void>((resolve, reject) => {
      const late = setTimeout(
        () => reject(new Error(`device ${number} did not catch up in ${CAUGHT_UP_MS_MAX / 1000} s`)),
        CAUGHT_UP_MS_MAX,
      )
      client.once('caughtUp', () => {
        clearTimeout(late)
        resolve()
      })
      client.on('closed', ({ code, name, reconnectInMs }) => {
        if (reconnectInMs !== null) return
        clearTimeout(late)
        reject(new Error(`device ${number} was refused and will not reconnect: ${code} ${name}`))
      })
    })
    client.connect()
    await caughtUp
  }

  /** Registers and subscribes, unless the state file has a registration from an earlier start. */
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
    this.logPresence(false)
    await client?.close()
  }

  private logPresence(isHere: boolean): void {
    this.options.presence.write({ at: Date.now(), device: this.options.number, isHere })
  }

  private listen(client: BorealisClient): void {
    const { number: device, app, onShown } = this.options
    for (const type of ['notification', 'expired'] as const) {
      client.on(type, ({ id, application, title, message, data, possibleDuplicate }) => {
        const attempt = typeof data.attempt === 'number' ? data.attempt : -1
        const hash = hashOf(title, message)
        app.write({
          ...{ type: type === 'notification' ? 'shown' : type, at: Date.now() },
          ...{ device, id, attempt, application, hash, possibleDuplicate },
        })
        onShown(device, attempt)
      })
    }
    client.on('caughtUp', () => this.logPresence(this.client === client))
    client.on('closed', () => this.logPresence(false))
    client.on('gap', ({ count, reason }) => app.write({ type: 'gap', at: Date.now(), device, count, reason }))
  }
}
