/**
 * Refuses appends to a stream that is nearly full, before the server has to.
 *
 * nats-server 2.9 does not keep its word near the limit of a stream that is told to refuse: it looks at the payload alone,
 * stores the record with all that belongs to it, is over the limit, and then silently removes the OLDEST record, which
 * somebody was told is stored. So its own limit must never be met: each process looks at how full the streams are that
 * it writes to, counts what it adds itself, and stops short of the limit by a reserve for what others add meanwhile.
 */

import { BrokerError } from '../broker.js'
import { parseAnswer } from '../client/jetstream-api.js'
import type { Link } from '../client/link.js'
import { RECORD_OVERHEAD_BYTES } from './streams.js'

const LOOK_MS = 500
const RESERVE_SHARE = 1 / 16
export const RESERVE_BYTES_MIN = 65_536

interface Fill {
  /** Most bytes that the stream may have by our reckoning. */
  bytesMax: number
  /** As it was seen, and what this process has added since. */
  bytes: number
  lookedAtMs: number
}

interface StreamInfo {
  config: { max_bytes: number; discard: string }
  state: { bytes: number }
}

export class Room {
  readonly #fills = new Map<string, Fill>()

  constructor(
    private readonly link: Pick<Link, 'connected' | 'ask' | 'settings'>,
    private readonly report: (problem: string, error: unknown) => void,
  ) {}

  /** Null where there is room for so many bytes more, as far as is known. */
  refusal(stream: string, bytes: number): BrokerError | null {
    // Nothing leaves, so nothing is added; the append says so itself.
    if (!this.link.connected) return null
    const fill = this.#fills.get(stream) ?? { bytesMax: Number.POSITIVE_INFINITY, bytes: 0, lookedAtMs: 0 }
    this.#fills.set(stream, fill)
    const nowMs = Date.now()
    if (Math.abs(nowMs - fill.lookedAtMs) >= LOOK_MS) {
      fill.lookedAtMs = nowMs
      void this.#look(stream, fill)
    }
    if (fill.bytes > fill.bytesMax) return new BrokerError('full', `${stream}: what is left is kept in reserve`)
    fill.bytes += bytes + RECORD_OVERHEAD_BYTES
    return null
  }

  async #look(stream: string, fill: Fill): Promise<void> {
    const before = fill.bytes
    try {
      const question = `$JS.API.STREAM.INFO.${stream}`
      const answer = await this.link.ask(question, Buffer.from('{}'), this.link.settings.requestTimeoutMs)
      const info = parseAnswer<StreamInfo>(answer.data, `room in ${stream}`)
      if (!info) return
      const { max_bytes, discard } = info.config
      const isBounded = discard === 'new' && max_bytes > 0
      const reserve = Math.max(RESERVE_BYTES_MIN, max_bytes * RESERVE_SHARE)
      fill.bytesMax = isBounded ? max_bytes - reserve : Number.POSITIVE_INFINITY
      // What was added while the question was under way may be in the answer or not.
      fill.bytes = info.state.bytes + (fill.bytes - before)
    } catch (error) {
      // Away, or busy: what is known stays, and the server is asked again in a moment.
      this.report(`room in ${stream}`, error)
    }
  }
}
