/**
 * The append-only logs of a fault run, with one JSON record in each line. The kernel has the line when `write` returns,
 * so that a driver that is killed leaves all its records; only the last line may be torn.
 */
import { closeSync, existsSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs'

export class AppendLog<T> {
  readonly #fd: number

  /** Continues an existing log, after removing a torn last line. */
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

/** Reads every complete record of the log; none if the file does not exist. */
export function readLog<T>(path: string): T[] {
  if (!existsSync(path)) return []
  const lines = readFileSync(path, 'utf8').split('\n')
  lines.pop()
  return lines.map((line) => JSON.parse(line) as T)
}
