/**
 * Headroom: refuses appends to a stream that is nearly full, before the server's own limit applies.
 *
 * nats-server 2.9 breaks its promise at the limit of a stream that should refuse new records. It compares only the
 * payload with the limit, stores the record with its overhead, exceeds the limit, and then silently removes the OLDEST
 * record, which was confirmed as stored. So no stream may reach its limit. Each process reads the size of the streams
 * that it writes to, adds its own appends, and stops before the limit; the reserve covers the appends of other processes
 * between two reads.
 */

import { BrokerError } from '../broker.js'
import { parseAnswer } from '../client/jetstream-api.js'
import type { Link } from '../client/link.js'
import { RECORD_OVERHEAD_BYTES } from './streams.js'

const READ_MS = 500
const RESERVE_SHARE = 1 / 16
export const RESERVE_BYTES_MIN = 65_536

interface Fill {
  /** Most bytes that this process lets the stream have. */
  bytesMax: number
  /** Size at the last read, plus the appends of this process since. */
  bytes: number
  readAtMs: number
}

/**
 * The size beyond which appends to a stream are refused. Infinity if the stream has no limit of bytes, or removes its
 * oldest records at the limit.
 * @param bytesMax limit of the stream; 0 or less: none.
 */
export function refusesAtBytes(bytesMax: number, discard: string | undefined): number {
  if (discard !== 'new' || bytesMax <= 0) return Number.POSITIVE_INFINITY
  return bytesMax - Math.max(RESERVE_BYTES_MIN, bytesMax * RESERVE_SHARE)
}

interface StreamInfo {
  config: { max_bytes: number; discard: string }
  state: { bytes: number }
}

export class Headroom {
  readonly #fills = new Map<string, Fill>()

  constructor(
    private readonly link: Pick<Link, 'connected' | 'ask' | 'settings'>,
    private readonly report: (problem: string, error: unknown) => void,
  ) {}

  /**
   * Null if the stream has room for an append of this size, as far as this process knows.
   * @param usesReserve never refused: see AppendOptions.
   */
  refusal(stream: string, bytes: number, usesReserve = false): BrokerError | null {
    // Without a connection the append fails by itself, and adds nothing.
    if (!this.link.connected) return null
    const fill = this.#fills.get(stream) ?? {
      bytesMax: Number.POSITIVE_INFINITY,
      bytes: 0,
      readAtMs: Number.NEGATIVE_INFINITY,
    }
    this.#fills.set(stream, fill)
    const nowMs = performance.now()
    if (nowMs - fill.readAtMs >= READ_MS) {
      fill.readAtMs = nowMs
      void this.#readSize(stream, fill)
    }
    if (fill.bytes > fill.bytesMax && !usesReserve)
      return new BrokerError('full', `${stream} is full up to its reserve`)
    fill.bytes += bytes + RECORD_OVERHEAD_BYTES
    return null
  }

  async #readSize(stream: string, fill: Fill): Promise<void> {
    const bytesBefore = fill.bytes
    try {
      const question = `$JS.API.STREAM.INFO.${stream}`
      const answer = await this.link.ask(question, Buffer.from('{}'), this.link.settings.requestTimeoutMs)
      const info = parseAnswer<StreamInfo>(answer.data, `room in ${stream}`)
      if (!info) return
      const { max_bytes, discard } = info.config
      fill.bytesMax = refusesAtBytes(max_bytes, discard)
      // The answer may or may not include appends made while the request was under way: count them again.
      fill.bytes = info.state.bytes + (fill.bytes - bytesBefore)
    } catch (error) {
      // The server is away or busy. The known size stays in use until the next read.
      this.report(`room in ${stream}`, error)
    }
  }
}
