/** Progress of a scenario on standard error: a bar on a terminal, plain lines elsewhere. */
export interface ProgressSink {
  isTTY?: boolean | undefined
  columns?: number | undefined
  write(text: string): unknown
}

const BAR_CELLS = 28
/** Shortest time between two plain lines of a bar. */
const PLAIN_EVERY_MS = 5_000

export class Progress {
  #open = false
  #lastPlainMs = 0

  constructor(
    private readonly sink: ProgressSink = process.stderr,
    private readonly quiet = false,
  ) {}

  /** Writes a line that stays. */
  say(text: string): void {
    if (this.quiet) return
    this.#clear()
    this.sink.write(`bench: ${text}\n`)
  }

  /** Draws the bar anew. A full bar disappears. */
  bar(label: string, done: number, total: number, unit = ''): void {
    if (this.quiet) return
    const full = done >= total
    const share = total > 0 ? Math.min(1, done / total) : 1
    const text = `${label} ${Math.round(done)}/${Math.round(total)}${unit && ` ${unit}`}`
    if (!this.sink.isTTY) {
      const nowMs = performance.now()
      if (!full && nowMs - this.#lastPlainMs < PLAIN_EVERY_MS) return
      this.#lastPlainMs = nowMs
      this.sink.write(`bench: ${text}\n`)
      return
    }
    const cells = Math.round(share * BAR_CELLS)
    const line = `  ${'█'.repeat(cells)}${'░'.repeat(BAR_CELLS - cells)} ${text}`
    this.sink.write(`\r\x1b[2K${line.slice(0, (this.sink.columns ?? 100) - 1)}`)
    this.#open = true
    if (full) this.#clear()
  }

  /** Removes the bar. */
  done(): void {
    this.#clear()
  }

  #clear(): void {
    if (this.#open) this.sink.write('\r\x1b[2K')
    this.#open = false
  }
}
