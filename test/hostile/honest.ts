/**
 * Well-behaved devices that get pushes all the while, some of them coming and going: what they get, and how their
 * connections end, is what attacks on others must not change.
 */
import { Close } from '../../protocol/close-codes.js'
import type { Credential, ServerFrame } from '../../protocol/frame-types.js'
import { seeded } from '../sim/random.js'
import { enter, say } from './enter.js'
import type { Ledger } from './ledger.js'
import { type Target, Wire } from './wire.js'

const ADDRESS = '127.0.0.1'
const PATIENCE_MS = 60_000
const ATTEMPTS_MAX = 10
const RETRY_MS = 500
const REFUSED = 503
/** Ids of theirs that attackers know of. */
const IDS_KNOWN = 256

export interface HonestOptions {
  target: Target
  device: string
  token: string
  ledger: Ledger
  /** Others hear of the ids of its messages. */
  known: bigint[]
}

const random = seeded(1)

export class HonestDevice {
  /** Titles of messages that came; each names its device. */
  readonly received = new Set<string>()
  private wire: Wire | null = null
  private connection = 0
  private isLeaving = false
  private isCaughtUp = false
  private ticket: Uint8Array | null = null

  constructor(private readonly options: HonestOptions) {}

  get device(): string {
    return this.options.device
  }

  /** Resolves when it is caught up. Rejects where it is not let in. */
  async arrive(): Promise<void> {
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
      const wire = await this.knock()
      if (this.isCaughtUp) {
        void wire.ended.then(({ code }) => this.ended(wire, code))
        return
      }
      const { end, status } = wire
      wire.leave()
      // A full house says so, and when to come again.
      if (status !== REFUSED) throw new Error(`a well-behaved device was not let in: ${status} ${JSON.stringify(end)}`)
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
    }
    throw new Error('a well-behaved device was refused again and again')
  }

  private async knock(): Promise<Wire> {
    const { target, token } = this.options
    const { ticket } = this
    const credential: Credential = ticket ? { kind: 'ticket', ticket } : { kind: 'token', token }
    this.isLeaving = false
    this.isCaughtUp = false
    this.connection++
    const wire = new Wire(target, ADDRESS, (received) => this.take(received, wire))
    this.wire = wire
    if (await enter(random, wire, { credential, connection: this.connection }, PATIENCE_MS)) {
      await wire.until(() => this.isCaughtUp, PATIENCE_MS)
    }
    return wire
  }

  private ended(wire: Wire, code: number): void {
    if (this.isLeaving || wire !== this.wire) return
    this.options.ledger.surprise(this.device, `a well-behaved device was closed with ${code}`)
    // It comes back, as devices do: what follows is counted as well.
    this.arrive().catch((error: Error) => this.options.ledger.surprise(this.device, error.message))
  }

  async leave(): Promise<void> {
    this.isLeaving = true
    const { wire } = this
    if (!wire) return
    say(random, wire, { type: 'BYE' })
    await wire.until(() => wire.end !== null, PATIENCE_MS)
    if (wire.end?.code !== Close.bye.code)
      this.options.ledger.surprise(this.device, `BYE was answered ${wire.end?.code}`)
    wire.leave()
    this.wire = null
  }

  private take(received: ServerFrame, wire: Wire): void {
    const { ledger, known, device } = this.options
    if (received.type === 'WELCOME') this.ticket = received.ticket
    if (received.type === 'CAUGHT_UP') this.isCaughtUp = true
    if (received.type !== 'NOTIFY') return
    if (!received.title.startsWith(device)) {
      ledger.wrongDevice++
      ledger.surprise(device, `got what is for ${received.title}`)
    }
    this.received.add(received.title)
    if (known.length < IDS_KNOWN) known.push(received.id)
    else known[Number(received.id % BigInt(IDS_KNOWN))] = received.id
    say(random, wire, { type: 'ACK', ids: [received.id] })
  }
}
