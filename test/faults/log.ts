/**
 * Append-only logs of a run, one JSON record a line. A line is in the kernel's hands when `write` returns, so that a
 * driver that is killed leaves everything it did; only its last line may be torn.
 */
import { closeSync, existsSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs'

export class AppendLog<T> {
  readonly #fd: number

  /** Goes on after what is there; what a kill tore off is removed. */
  constructor(readonly path: string) {
    if (existsSync(path)) truncateSync(path, readFileSync(path).lastIndexOf('\n') + 1)
    this.#fd = openSync(path, 'a', 0o600)
  }

  write(record: T): void {
    writeSync(this.#fd, `${JSON.stringify(record)}\n`)
  }

  close(): void {
    closeSync(this.#fd)
  }
}

/** Every whole record of the log; none where there is no such file. */
export function readLog<T>(path: string): T[] {
  if (!existsSync(path)) return []
  const lines = readFileSync(path, 'utf8').split('\n')
  lines.pop()
  return lines.map((line) => JSON.parse(line) as T)
}
