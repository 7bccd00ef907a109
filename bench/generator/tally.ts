/** What one generator counts. Sequences of messages are remembered, so that each loss and each repetition is known. */
import type { Histogram } from 'hdr-histogram-js'
import { newHistogram, packHistogram, record } from '../measure/latency.js'

export interface Report {
  connected: number
  ready: number
  /** Ended while ready, and not by us. */
  unexpectedDisconnects: number
  /** Left because the server asked for it (GOAWAY). */
  moved: number
  /** Closed with a code after which a device stays away. */
  stopped: number
  /** Upgrades answered with something else than 101, and closes before ready. */
  refused: number
  /** Connections that could not be made at all. */
  failed: number
  /** Close codes with which the server ended connections, and how often. */
  closes: Record<string, number>
  /** Messages seen for the first time. */
  delivered: number
  /** The same message again: a device takes it out by its id. */
  duplicatesOnWire: number
  /** The same push under another message id: an app would see it twice. */
  duplicatesSeenByApp: number
  groupDelivered: number
  groupDuplicates: number
  gaps: number
  /** Messages that GAPs said will not come. */
  gapMessages: number
  pongs: number
  /** What the server sent that this generator cannot read. */
  faults: number
  bytesReceived: number
  bytesSent: number
  /** Of the last message; microseconds of micros.ts. */
  lastAtMicros: number
  latency: string
  handshake: string
}

/** Two processes know the shared clock to some microseconds; what is earlier than that, or no number, is no stamp. */
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
  /** By sequence: low and high half of the message id it came with; both 0: not seen. */
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

  /** The caller has told repetitions apart by the message's place in the log. */
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

  /** Begins anew what belongs to one round; which messages were seen, and how many, stays known. */
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

/** Reports of several generators as one; the histograms stay apart, to be merged by whoever wants them. */
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
