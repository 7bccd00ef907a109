import { formatLine, parseFields } from '../../observe/log-text.js'

/** What `borealis start` shows on standard output: its own steps, what the parts complain about, and the pushes. */
export class Output {
  /** `verbose`: the log of the parts as a whole, not only warnings and errors. */
  constructor(
    private readonly write: (text: string) => void,
    private readonly verbose = false,
  ) {}

  /** One step of starting or stopping. */
  step(text: string): void {
    this.write(`borealis  ${text}\n`)
  }

  /** Something an operator should know. */
  notice = (text: string): void => {
    this.write(`borealis  ! ${text}\n`)
  }

  /** A line of a part: its log (JSON), or whatever a crash wrote. */
  part(name: string, line: string): void {
    const fields = parseFields(line)
    if (fields === null) {
      if (line.trim() !== '') this.write(`${name}: ${line}\n`)
    } else if (this.verbose || ['warn', 'error', 'fatal'].includes(String(fields.level))) {
      this.write(formatLine(line))
    }
  }

  /** What the sample device prints: the pushes. */
  device(line: string): void {
    this.write(`device    ${line}\n`)
  }

  text(text: string): void {
    this.write(text)
  }
}
