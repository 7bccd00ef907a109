/** The counts of one generator. It remembers the sequence of each message, and so knows every loss and repetition. */
import type { Histogram } from 'hdr-histogram-js'
import { newHistogram, packHistogram, record } from '../measure/latency.js'

export interface Report {
  connected: number
  ready: number
  /** Connections that ended while ready, and not by the generator. */
  unexpectedDisconnects: number
  /** Times that a device left because the server asked for it (GOAWAY). */
  moved: number
  /** Closes with a code after which a device does not reconnect. */
  stopped: number
  /** Upgrades with another answer than 101, and closes before ready. */
  refused: number
  /** TCP connections that failed. */
  failed: number
  /** Number of closes by the server for each close code. */
  closes: Record<string, number>
  /** Messages seen for the first time. */
  delivered: number
  /** Repetitions under the same message id. A device library drops them. */
  duplicatesOnWire: number
  /** Repetitions under another message id. An app would see the push twice. */
  duplicatesSeenByApp: number
  groupDelivered: number
  groupDuplicates: number
  gaps: number
  /** Number of missing messages that GAP frames announced. */
  gapMessages: number
  pongs: number
  /** Invalid or unexpected data from the server. */
  faults: number
  bytesReceived: number
  bytesSent: number
  /** Time of the last message, in microseconds of micros.ts. */
  lastAtMicros: number
  latency: string
  handshake: string
}

/** Two processes may differ by some microseconds about the shared clock. An even lower latency is no valid stamp. */
const CLOCK_ERROR_MICROS = -1_000

export class Tally {
  ready = 0
  connected = 0
  unexpectedDisconnects = 0
  moved = 0
  stopped = 0
  refused = 0
  failed = 0
  closes: Record<string, number> = {}
  delivered = 0
  duplicatesOnWire = 0
  duplicatesSeenByApp = 0
  groupDelivered = 0
  groupDuplicates = 0
  gaps = 0
  gapMessages = 0
  pongs = 0
  faults = 0
  bytesReceived = 0
  bytesSent = 0
  lastAtMicros = 0
  latency: Histogram = newHistogram()
  handshake: Histogram = newHistogram()
  /** By sequence: the low and the high half of the message id; both 0: not seen yet. */
  #low: Uint32Array = new Uint32Array(1024)
  #high: Uint32Array = new Uint32Array(1024)

  message(sequence: number, low: number, high: number, latencyMicros: number, nowMicros: number): void {
    if (!(sequence >= 0) || !(latencyMicros >= CLOCK_ERROR_MICROS)) {
      this.faults++
      return
    }
    this.lastAtMicros = nowMicros
    if (sequence >= this.#low.length) this.#grow(sequence)
    const knownLow = this.#low[sequence]
    const knownHigh = this.#high[sequence]
    if (knownLow === 0 && knownHigh === 0) {
      this.#low[sequence] = low
      this.#high[sequence] = high
      this.delivered++
      record(this.latency, latencyMicros)
    } else if (knownLow === low && knownHigh === high) this.duplicatesOnWire++
    else this.duplicatesSeenByApp++
  }

  /** The caller has already dropped repetitions, by the position in the log. */
  groupMessage(latencyMicros: number, nowMicros: number): void {
    if (!(latencyMicros >= CLOCK_ERROR_MICROS)) {
      this.faults++
      return
    }
    this.lastAtMicros = nowMicros
    this.groupDelivered++
    record(this.latency, latencyMicros)
  }

  closed(code: number): void {
    this.closes[code] = (this.closes[code] ?? 0) + 1
  }

  report(): Report {
    const { latency, handshake, ...counts } = this
    return { ...counts, latency: packHistogram(latency), handshake: packHistogram(handshake) }
  }

  /** Resets the counts of a round. The known sequences and the counts of the run stay. */
  newRound(): void {
    this.groupDelivered = 0
    this.latency.reset()
    this.handshake.reset()
    this.lastAtMicros = 0
  }

  #grow(sequence: number): void {
    const size = Math.max(sequence + 1, this.#low.length * 2)
    this.#low = grown(this.#low, size)
    this.#high = grown(this.#high, size)
  }
}

function grown(from: Uint32Array, size: number): Uint32Array {
  const to = new Uint32Array(size)
  to.set(from)
  return to
}

type Sums = Omit<Report, 'latency' | 'handshake' | 'closes' | 'lastAtMicros'>

/** Adds up the reports of several generators, without their histograms. */
export function sumReports(reports: readonly Report[]): Sums & Pick<Report, 'closes' | 'lastAtMicros'> {
  const [first, ...others] = reports
  if (!first) throw new Error('no generator reported')
  const { latency: _latency, handshake: _handshake, ...sum } = first
  const total = { ...sum, closes: { ...sum.closes } }
  for (const other of others) {
    for (const [code, count] of Object.entries(other.closes)) total.closes[code] = (total.closes[code] ?? 0) + count
    total.lastAtMicros = Math.max(total.lastAtMicros, other.lastAtMicros)
    for (const name of SUMMED) total[name] += other[name]
  }
  return total
}

const SUMMED = [
  'connected',
  'ready',
  'unexpectedDisconnects',
  'moved',
  'stopped',
  'refused',
  'failed',
  'delivered',
  'duplicatesOnWire',
  'duplicatesSeenByApp',
  'groupDelivered',
  'groupDuplicates',
  'gaps',
  'gapMessages',
  'pongs',
  'faults',
  'bytesReceived',
  'bytesSent',
] as const satisfies readonly (keyof Sums)[]
