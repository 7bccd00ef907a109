/** An app server that sends pushes during the attacks: most to well-behaved devices, some to hostile ones. */
import { type Fleet, registrationIdOf } from '../../bench/system/fleet.js'
import type { LocalSystem } from '../../bench/system/local-system.js'
import type { HonestDevice } from './honest.js'
import type { Ledger } from './ledger.js'

export interface PushesOptions {
  system: LocalSystem
  fleet: Fleet
  token: string
  ledger: Ledger
  /** In the order of their indexes in the fleet. */
  honest: readonly HonestDevice[]
  /** The hostile devices that get pushes, by their indexes in the fleet. */
  hostile: { first: number; count: number; deviceAt(index: number): string }
}

const PERIOD_MS = 50
/** One of so many pushes goes to a hostile device. */
const HOSTILE_EVERY = 10
const ACCEPTED = 202
const GONE = 410
const SETTLE_MS = 60_000
const POLL_MS = 50

export class Pushes {
  accepted = 0
  /** Number of pushes that were not answered with 202, for example because the service was busy. */
  refused = 0
  private sent = 0
  /** The titles that were accepted and are not received yet, by device. */
  private readonly outstanding = new Map<HonestDevice, Set<string>>()
  private timer: NodeJS.Timeout | null = null
  private readonly underWay = new Set<Promise<void>>()

  constructor(private readonly options: PushesOptions) {
    for (const device of options.honest) this.outstanding.set(device, new Set())
  }

  start(): void {
    this.timer = setInterval(() => {
      const push = this.push(this.sent++).finally(() => this.underWay.delete(push))
      this.underWay.add(push)
    }, PERIOD_MS)
  }

  /** Stops sending. Resolves with the number of accepted messages that have not arrived after a minute. */
  async settle(): Promise<number> {
    this.stop()
    await Promise.all(this.underWay)
    const deadlineMs = performance.now() + SETTLE_MS
    while (this.missing().length > 0 && performance.now() < deadlineMs) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
    const missing = this.missing()
    for (const title of missing)
      this.options.ledger.surprise('pushes', `an accepted message was not delivered: ${title}`)
    return missing.length
  }

  stop(): void {
    if (this.timer) clearInterval(this.timer)
    this.timer = null
  }

  /** The titles that are not received yet. It forgets the received ones, because a run may be long. */
  private missing(): string[] {
    for (const [device, titles] of this.outstanding) {
      for (const title of titles) if (device.received.delete(title)) titles.delete(title)
    }
    return [...this.outstanding.values()].flatMap((titles) => [...titles])
  }

  private async push(number: number): Promise<void> {
    const { honest, hostile } = this.options
    const isHostile = number % HOSTILE_EVERY === HOSTILE_EVERY - 1
    const index = isHostile ? hostile.first + (number % hostile.count) : number % honest.length
    const device = isHostile ? null : (honest[index] ?? null)
    const title = `${device?.device ?? hostile.deviceAt(index)} ${number}`
    const status = await this.post(index, title).catch(() => 0)
    if (status !== ACCEPTED) {
      this.refused++
      // A hostile device may have ended its own registration.
      const isExpected = isHostile && status === GONE
      if (status >= 400 && status < 500 && !isExpected)
        this.options.ledger.surprise('pushes', `a valid push was answered with ${status}`)
      return
    }
    this.accepted++
    if (device) this.outstanding.get(device)?.add(title)
    if (number % 1_000 === 0) this.missing()
  }

  private async post(index: number, title: string): Promise<number> {
    const { system, fleet, token } = this.options
    const answer = await fetch(`${system.httpUrl}/push/public/api/v1/projects/${fleet.project}/messages`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        ...{ type: 'device', target: registrationIdOf(system, fleet, index), ttl: '10m' },
        notification: { title, message: 'm' },
      }),
    })
    await answer.arrayBuffer()
    return answer.status
  }
}
