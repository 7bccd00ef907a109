/**
 * Lets only one process use a state file. Two processes would raise the connection number in turn and push each other off
 * the server, and both would write to the journal. The lock is a file with the owner's process id; the lock of a process
 * that no longer runs is taken over.
 */
import { readFile, rm, writeFile } from 'node:fs/promises'
import { DeviceError } from '../errors.js'

const ATTEMPTS = 3

/** Locks that this process holds: a lock file with its own process id may be its own, or left by an earlier process. */
const held = new Set<string>()

export class FileLock {
  private constructor(private readonly path: string) {}

  /** Rejects with DeviceError `state_locked`, or `state_unwritable` if the folder is not writable. */
  static async take(path: string): Promise<FileLock> {
    if (held.has(path)) throw new DeviceError('state_locked', `${path}, by this process`)
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      try {
        await writeFile(path, `${process.pid}\n`, { flag: 'wx', mode: 0o600 })
        held.add(path)
        return new FileLock(path)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') {
          throw new DeviceError('state_unwritable', error instanceof Error ? error.message : String(error), {
            cause: error,
          })
        }
      }
      const owner = await ownerOf(path)
      if (owner !== null && owner !== process.pid && isAlive(owner))
        throw new DeviceError('state_locked', `${path}, by process ${owner}`)
      await rm(path, { force: true })
    }
    throw new DeviceError('state_locked', path)
  }

  async release(): Promise<void> {
    if (!held.delete(this.path)) return
    await rm(this.path, { force: true })
  }
}

/** Null: the file does not exist, or has no process id because its writer died before the write. */
async function ownerOf(path: string): Promise<number | null> {
  try {
    const pid = Number.parseInt(await readFile(path, 'utf8'), 10)
    return Number.isInteger(pid) && pid > 0 ? pid : null
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
