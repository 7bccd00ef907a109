/** What happened in a run: a hash, so that two runs of a seed can be compared, and lines for people where wanted. */
export class Trace {
  private hash = 0x811c9dc5
  readonly lines: string[] = []
  count = 0

  constructor(
    private readonly now: () => number,
    /** Keep the lines. */
    readonly isKept: boolean,
  ) {}

  add(who: string, what: string): void {
    const line = `${(this.now() / 1_000).toFixed(3).padStart(8)} ${who.padEnd(10)} ${what}`
    this.count++
    for (let i = 0; i < line.length; i++) this.hash = Math.imul(this.hash ^ line.charCodeAt(i), 0x01000193)
    if (this.isKept) this.lines.push(line)
  }

  /** Only for people. */
  note(who: string, what: string): void {
    if (this.isKept) this.lines.push(`${(this.now() / 1_000).toFixed(3).padStart(8)}   ${who.padEnd(10)} ${what}`)
  }

  get digest(): string {
    return (this.hash >>> 0).toString(16).padStart(8, '0')
  }
}
