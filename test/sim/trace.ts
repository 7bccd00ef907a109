/** The record of a run: a hash of its steps, which compares two runs of a seed, and readable lines on request. */
export class Trace {
  private hash = 0x811c9dc5
  readonly lines: string[] = []
  count = 0

  constructor(
    private readonly now: () => number,
    /** Keeps the lines; without it only the hash is computed. */
    readonly isKept: boolean,
  ) {}

  /** Adds a step to the hash and to the lines. */
  add(part: string, step: string): void {
    const line = `${(this.now() / 1_000).toFixed(3).padStart(8)} ${part.padEnd(10)} ${step}`
    this.count++
    for (let i = 0; i < line.length; i++) this.hash = Math.imul(this.hash ^ line.charCodeAt(i), 0x01000193)
    if (this.isKept) this.lines.push(line)
  }

  /** Adds a remark to the lines alone: the hash must not depend on whether a trace is kept. */
  note(part: string, text: string): void {
    if (this.isKept) this.lines.push(`${(this.now() / 1_000).toFixed(3).padStart(8)}   ${part.padEnd(10)} ${text}`)
  }

  get digest(): string {
    return (this.hash >>> 0).toString(16).padStart(8, '0')
  }
}
