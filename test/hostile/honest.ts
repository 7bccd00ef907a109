/**
 * Well-behaved devices that get pushes during the attacks. The attacks must not lose, misdirect or delay these pushes, or
 * close these connections.
 */
import { Close } from '../../protocol/close-codes.js'
import type { Credential, ServerFrame } from '../../protocol/frame-types.js'
import { seeded } from '../sim/random.js'
import { enter, sendFrames } from './enter.js'
import type { Ledger } from './ledger.js'
import { type Target, Wire } from './wire.js'

const ADDRESS = '127.0.0.1'
const TIMEOUT_MS = 60_000
const ATTEMPTS_MAX = 10
const RETRY_MS = 500
const REFUSED = 503
/** The number of their message ids that attackers know. */
const IDS_KNOWN = 256

export interface HonestOptions {
  target: Target
  device: string
  token: string
  ledger: Ledger
  /** Receives the ids of its messages, for the attackers. */
  known: bigint[]
}

const random = seeded(1)

export class HonestDevice {
  /** The titles of the received messages; a title begins with its device. */
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

  /** Connects, and resolves when the device has caught up. Rejects if it is refused. */
  async connect(): Promise<void> {
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
      const wire = await this.attempt()
      if (this.isCaughtUp) {
        void wire.ended.then(({ code }) => this.onEnd(wire, code))
        return
      }
      const { end, status } = wire
      wire.leave()
      // A worker without room refuses with 503, and the device tries again later.
      if (status !== REFUSED) throw new Error(`a well-behaved device cannot connect: ${status} ${JSON.stringify(end)}`)
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
    }
    throw new Error(`a well-behaved device was refused ${ATTEMPTS_MAX} times`)
  }

  private async attempt(): Promise<Wire> {
    const { target, token } = this.options
    const { ticket } = this
    const credential: Credential = ticket ? { kind: 'ticket', ticket } : { kind: 'token', token }
    this.isLeaving = false
    this.isCaughtUp = false
    this.connection++
    const wire = new Wire(target, ADDRESS, (received) => this.take(received, wire))
    this.wire = wire
    if (await enter(random, wire, { credential, connection: this.connection }, TIMEOUT_MS)) {
      await wire.until(() => this.isCaughtUp, TIMEOUT_MS)
    }
    return wire
  }

  private onEnd(wire: Wire, code: number): void {
    if (this.isLeaving || wire !== this.wire) return
    this.options.ledger.surprise(this.device, `a well-behaved device was closed with ${code}`)
    // The device reconnects, so that further surprises are counted too.
    this.connect().catch((error: Error) => this.options.ledger.surprise(this.device, error.message))
  }

  async disconnect(): Promise<void> {
    this.isLeaving = true
    const { wire } = this
    if (!wire) return
    sendFrames(random, wire, { type: 'BYE' })
    await wire.until(() => wire.end !== null, TIMEOUT_MS)
    if (wire.end?.code !== Close.bye.code)
      this.options.ledger.surprise(this.device, `BYE was answered with ${wire.end?.code}`)
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
      ledger.surprise(device, `got a message for ${received.title}`)
    }
    this.received.add(received.title)
    if (known.length < IDS_KNOWN) known.push(received.id)
    else known[Number(received.id % BigInt(IDS_KNOWN))] = received.id
    sendFrames(random, wire, { type: 'ACK', ids: [received.id] })
  }
}
