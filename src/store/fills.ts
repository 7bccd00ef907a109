/** How full each stream is, how fast it grows, and when it will be full: for metrics, `/readyz` and `borealis status`. */
import type { Clock } from '../clock.js'
import type { Broker, LogState } from '../nats/broker.js'

export interface StreamFill {
  stream: string
  bytes: number
  records: number
  /** Size or number of records at which the stream refuses new records, or removes its oldest; null: no such limit. */
  bytesMax: number | null
  recordsMax: number | null
  /** The greater share of both limits, 0 to 1; 0 if there is none. */
  ratio: number
  /** Null until the stream was watched for long enough. */
  growthBytesPerDay: number | null
  /** Null if the stream does not grow, has no limit of bytes, or was not watched for long enough. */
  fullInDays: number | null
}

interface Sample {
  atMs: number
  bytes: number
}

const DAY_MS = 86_400_000
const LOOK_MS = 60_000
/** Growth is measured over at least this time, and at most over a day. */
const WATCHED_MS_MIN = 600_000
const SAMPLE_EVERY_MS = 3_600_000
const SAMPLES_MAX = 24

/** The growth of one stream, from samples of its size. Pure. */
export class Growth {
  /** Oldest first, one an hour. */
  private readonly samples: Sample[] = []

  add(atMs: number, bytes: number): void {
    const last = this.samples.at(-1)
    if (last && atMs - last.atMs < SAMPLE_EVERY_MS) return
    this.samples.push({ atMs, bytes })
    if (this.samples.length > SAMPLES_MAX) this.samples.shift()
  }

  /** Bytes a day up to a size now; null if the first sample is too young. */
  perDay(atMs: number, bytes: number): number | null {
    const [first] = this.samples
    if (!first || atMs - first.atMs < WATCHED_MS_MIN) return null
    return ((bytes - first.bytes) / (atMs - first.atMs)) * DAY_MS
  }
}

export class StoreFills {
  private readonly growths = new Map<string, Growth>()
  private latest: StreamFill[] = []
  private cancel: (() => void) | null = null
  private isStopped = false

  /** @param names the streams, as the settings define them. */
  constructor(
    private readonly broker: Broker,
    private readonly clock: Clock,
    private readonly names: readonly string[],
  ) {}

  /** Resolves after the first look. Never rejects: a stream that does not answer is absent until it does. */
  async start(): Promise<void> {
    await this.look()
    if (!this.isStopped) this.cancel = this.clock.after(LOOK_MS, () => void this.start())
  }

  stop(): void {
    this.isStopped = true
    this.cancel?.()
  }

  /** As of the last look, fullest first. */
  report(): readonly StreamFill[] {
    return this.latest
  }

  private async look(): Promise<void> {
    const looks = await Promise.allSettled(this.names.map((name) => this.broker.log(name).state()))
    const atMs = this.clock.now()
    this.latest = looks
      .flatMap((look, index) => {
        const stream = this.names[index] ?? ''
        return look.status === 'fulfilled' ? [this.fillOf(stream, look.value, atMs)] : []
      })
      .sort((a, b) => b.ratio - a.ratio)
  }

  private fillOf(stream: string, state: LogState, atMs: number): StreamFill {
    const { bytes, messages: records } = state
    const growth = this.growths.get(stream) ?? new Growth()
    this.growths.set(stream, growth)
    growth.add(atMs, bytes)
    const growthBytesPerDay = growth.perDay(atMs, bytes)
    const limit = Number.isFinite(state.refusesAtBytes) ? state.refusesAtBytes : state.bytesMax
    const bytesMax = limit > 0 ? limit : null
    const recordsMax = state.recordsMax > 0 ? state.recordsMax : null
    const ratio = Math.max(bytesMax ? bytes / bytesMax : 0, recordsMax ? records / recordsMax : 0)
    const grows = bytesMax !== null && growthBytesPerDay !== null && growthBytesPerDay > 0
    const fullInDays = grows ? Math.max(0, bytesMax - bytes) / growthBytesPerDay : null
    return { stream, bytes, records, bytesMax, recordsMax, ratio, growthBytesPerDay, fullInDays }
  }
}
