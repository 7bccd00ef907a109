/** The terminal output of `borealis start`: its own steps, warnings of the parts, and the pushes of the sample device. */
import { formatLine, parseFields } from '../../observe/log-text.js'

export class Output {
  /** @param verbose shows the whole log of the parts, not only warnings and errors. */
  constructor(
    private readonly write: (text: string) => void,
    private readonly verbose = false,
  ) {}

  /** One step of starting or stopping. */
  step(text: string): void {
    this.write(`borealis  ${text}\n`)
  }

  /** Shows news for the operator. */
  notice = (text: string): void => {
    this.write(`borealis  ! ${text}\n`)
  }

  /** Shows a line of a part: a line of its log (JSON), or the text of a crash. */
  part(name: string, line: string): void {
    const fields = parseFields(line)
    if (fields === null) {
      if (line.trim() !== '') this.write(`${name}: ${line}\n`)
    } else if (this.verbose || ['warn', 'error', 'fatal'].includes(String(fields.level))) {
      this.write(formatLine(line))
    }
  }

  /** Shows a line of the sample device. */
  device(line: string): void {
    this.write(`device    ${line}\n`)
  }

  text(text: string): void {
    this.write(text)
  }
}
