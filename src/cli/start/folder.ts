/** The data folder of `borealis start`: files that only this user may read, and one owner at a time. */
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { CommandError } from '../context.js'
import { writePrivateFile } from '../private-file.js'

export class DataFolder {
  private constructor(readonly path: string) {}

  /** Creates the folder and marks it as in use. Throws CommandError if another `borealis start` uses it. */
  static claim(name: string): DataFolder {
    const path = resolve(name)
    mkdirSync(path, { recursive: true, mode: 0o700 })
    const folder = new DataFolder(path)
    const owner = Number(folder.read<{ pid: number }>('start.json')?.pid ?? 0)
    if (owner !== process.pid && isStart(owner)) {
      throw new CommandError(
        `process ${owner} already runs Borealis in ${path} (the setting start.dataFolder chooses another folder)`,
      )
    }
    folder.write('start.json', { pid: process.pid })
    return folder
  }

  release(): void {
    rmSync(this.file('start.json'), { force: true })
  }

  file(name: string): string {
    return join(this.path, name)
  }

  /** Null if there is no such file. Throws CommandError if the file is not JSON. */
  read<T>(name: string): T | null {
    const file = this.file(name)
    let text: string
    try {
      text = readFileSync(file, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw new CommandError(`cannot read ${file}`, 1, { cause: error })
    }
    try {
      return JSON.parse(text) as T
    } catch {
      throw new CommandError(`${file} is damaged: remove it, and it is created again`)
    }
  }

  write(name: string, value: unknown): void {
    this.writeText(name, `${JSON.stringify(value, null, 2)}\n`)
  }

  /** Writes the whole file or nothing. */
  writeText(name: string, text: string): void {
    writePrivateFile(this.file(name), text)
  }
}

/** True if the process lives and is a `borealis start`; its id may belong to another program now. */
function isStart(pid: number): boolean {
  if (pid <= 0) return false
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  try {
    return /borealis|cli\.js|start\.mjs/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8'))
  } catch {
    // Without /proc, only the existence of the process is known.
    return true
  }
}
