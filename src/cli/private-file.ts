/** Files with secrets, which only this user may read (mode 0600). */
import { closeSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import { CommandError } from './context.js'

/**
 * A file that is written as a whole or not at all. It opens a temporary file beside the real one, so that a folder that
 * is not writable is noticed before the secret exists.
 */
export class PrivateFile {
  readonly #temporary: string
  #descriptor: number | null

  /** Throws CommandError if the folder is not writable. */
  constructor(readonly path: string) {
    this.#temporary = `${path}.${process.pid}.tmp`
    try {
      this.#descriptor = openSync(this.#temporary, 'wx', 0o600)
    } catch (cause) {
      throw new CommandError(`${path} cannot be written: ${(cause as NodeJS.ErrnoException).code}`, 2, { cause })
    }
  }

  /** Replaces the file, whatever its mode was. */
  write(text: string): void {
    if (this.#descriptor === null) return
    writeSync(this.#descriptor, text)
    this.#close()
    renameSync(this.#temporary, this.path)
  }

  /** Leaves the file as it was. Does nothing after write(). */
  discard(): void {
    this.#close()
    rmSync(this.#temporary, { force: true })
  }

  #close(): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor)
    this.#descriptor = null
  }
}

export function writePrivateFile(path: string, text: string): void {
  new PrivateFile(path).write(text)
}
