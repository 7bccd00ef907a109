/** The disk under JetStream is full: a small file system of its own, of which nothing is left. */
import { spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { natsFolder } from '../../../src/cli/start/nats.js'
import type { StoreSettings } from '../../../src/nats/settings.js'
import { between } from '../../sim/random.js'
import { type Fault, FaultSkipped } from '../fault.js'

const MIB = 1_048_576
const DISK_MIB = 256
/** Of every stream: JetStream reserves what they may have, and takes three quarters of the disk at most. */
const store = {
  ...{ messagesBytesMax: 4 * MIB, queueBytesMax: 4 * MIB, eventsBytesMax: 8 * MIB, broadcastBytesMax: 8 * MIB },
  ...{ expiryBytesMax: 8 * MIB, ingressBytesMax: 8 * MIB, deadLettersBytesMax: MIB },
  ...{ outcomeEventsBytesMax: 4 * MIB, scheduleBytesMax: 4 * MIB, auditBytesMax: MIB },
  ...{ tableBytesMax: 4 * MIB, smallTableBytesMax: MIB },
} satisfies Record<keyof StoreSettings & `${string}BytesMax`, number>
const FULL_MS = [3_000, 10_000] as const
const FILLER = 'filler'

function run(command: string, ...args: string[]): void {
  const { status, error, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  if (status !== 0) throw new FaultSkipped(`${command} is refused here: ${error?.message ?? stderr.trim()}`)
}

/** Takes what is left, beside who writes there too, and gives how much that was. */
function fill(file: string): number {
  const chunk = Buffer.alloc(MIB)
  const handle = openSync(file, 'w')
  let taken = 0
  try {
    for (let bytes = chunk.length; bytes > 0; ) {
      try {
        taken += writeSync(handle, chunk, 0, bytes)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
        bytes = Math.floor(bytes / 2)
      }
    }
  } finally {
    closeSync(handle)
  }
  return taken
}

let disk = ''

export const diskFull: Fault = {
  name: 'disk-full',
  summary:
    'not a byte is left on the disk that JetStream writes to: refused, never falsely accepted (needs root, for a mount)',
  settings: { store },
  furnish: (systemFolder, cleanup) => {
    disk = join(systemFolder, natsFolder)
    mkdirSync(disk, { recursive: true })
    run('mount', '-t', 'tmpfs', '-o', `size=${DISK_MIB}m,mode=0700`, 'tmpfs', disk)
    cleanup.defer(() => run('umount', '-l', disk))
  },
  expects: /^503 /,
  inject: ({ system }, random) => {
    const filler = join(disk, FILLER)
    const taken = fill(filler)
    return {
      told: `${taken} bytes were left and are taken`,
      lastsMs: between(random, FULL_MS),
      heal: () => {
        rmSync(filler)
        // nats-server 2.9 answers nothing more after a write that failed, and does not heed SIGTERM: an operator kills it.
        system.kill('nats')
      },
    }
  },
}
