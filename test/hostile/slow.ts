/** Slow connections, in parallel to the plans: idle ones, incomplete requests, and requests of one byte at a time. */
import { Close } from '../../protocol/close-codes.js'
import { encodeFrame } from '../../protocol/encode.js'
import type { Random } from './chance.js'
import { helloFrame } from './enter.js'
import type { Ledger } from './ledger.js'
import { frame, upgradeRequest } from './websocket.js'
import { type Target, Wire } from './wire.js'

export interface SlowOptions {
  target: Target
  gateway: Target
  ledger: Ledger
  random: Random
  /** The number of connections of each kind. */
  count: number
}

/** The limits are 5 s for HELLO and 10 s for an HTTP request. They are checked in steps, on a busy machine. */
const CUT_WITHIN_MS = 25_000
const DRIP_MS = 400
const ADDRESS = '127.0.0.1'

interface SlowKind {
  name: string
  to: 'target' | 'gateway'
  /** Sent at once. */
  first: Uint8Array
  /** Sent one byte at a time, except for the last byte. */
  drops: Uint8Array
  /** The expected close code; null before the upgrade, where no close frame is possible. */
  code: number | null
}

export class SlowConnections {
  private readonly wires: { wire: Wire; slow: SlowKind; startedMs: number }[] = []
  private readonly timer: NodeJS.Timeout
  private dripped = 0

  constructor(private readonly options: SlowOptions) {
    const { random, count, ledger } = options
    const none = new Uint8Array()
    const hello = frame(random, encodeFrame(helloFrame({ credential: null, connection: 1 })))
    const post = Buffer.from('POST /device/v1/enrol HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n{')
    const endless = Buffer.alloc(1_000, 'a')
    const kinds: SlowKind[] = [
      { name: 'idle TCP', to: 'target', first: none, drops: none, code: null },
      {
        name: 'half a handshake',
        to: 'target',
        first: upgradeRequest(random).subarray(0, 40),
        drops: none,
        code: null,
      },
      { name: 'a dripping handshake', to: 'target', first: none, drops: endless, code: null },
      { name: 'no HELLO', to: 'target', first: upgradeRequest(random), drops: none, code: Close.hello_timeout.code },
      {
        name: 'a dripping HELLO',
        to: 'target',
        first: upgradeRequest(random),
        drops: hello,
        code: Close.hello_timeout.code,
      },
      { name: 'idle TCP at the gateway', to: 'gateway', first: none, drops: none, code: null },
      {
        name: 'dripping headers',
        to: 'gateway',
        first: Buffer.from('GET / HTTP/1.1\r\na: '),
        drops: endless,
        code: null,
      },
      { name: 'a dripping body', to: 'gateway', first: post, drops: endless, code: null },
    ]
    for (const slow of kinds) for (let i = 0; i < count; i++) this.begin(slow)
    ledger.connections += this.wires.length
    this.timer = setInterval(() => this.drip(), DRIP_MS)
  }

  /** Resolves when all connections have ended. A connection that is open after its time is a surprise. */
  async settle(): Promise<void> {
    const { ledger } = this.options
    for (const { wire, slow, startedMs } of this.wires) {
      const leftMs = Math.max(0, CUT_WITHIN_MS - (performance.now() - startedMs))
      if (!(await wire.until(() => wire.end !== null, leftMs))) {
        ledger.surprise('slow', `${slow.name}: still open after ${CUT_WITHIN_MS} ms`)
      } else if (slow.code !== null) {
        ledger.closed(wire.end?.code ?? 0)
        if (wire.end?.code !== slow.code)
          ledger.surprise('slow', `${slow.name}: closed with ${wire.end?.code}, not ${slow.code}`)
      } else ledger.answered(wire.status)
    }
    this.stop()
  }

  stop(): void {
    clearInterval(this.timer)
    for (const { wire } of this.wires) wire.leave()
  }

  private begin(slow: SlowKind): void {
    const wire = new Wire(this.options[slow.to], ADDRESS)
    wire.write(slow.first)
    this.wires.push({ wire, slow, startedMs: performance.now() })
  }

  private drip(): void {
    const at = this.dripped++
    for (const { wire, slow } of this.wires) {
      // The last byte is never sent, so that the request stays incomplete.
      const drop = slow.drops.subarray(at, Math.min(at + 1, slow.drops.length - 1))
      if (drop.length > 0) wire.write(drop)
    }
  }
}
