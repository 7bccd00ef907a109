/** A full disk under JetStream: a small file system of its own, which the fault fills to the last byte. */
import { spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { natsFolder } from '../../../src/cli/start/nats.js'
import type { StoreSettings } from '../../../src/nats/settings.js'
import { between } from '../../sim/random.js'
import { type Fault, FaultSkipped } from '../fault.js'

const MIB = 1_048_576
const DISK_MIB = 256
/** JetStream reserves the limits of all streams in advance, and uses at most three quarters of the disk. */
const store = {
  ...{ messagesBytesMax: 4 * MIB, queueBytesMax: 4 * MIB, eventsBytesMax: 8 * MIB, broadcastBytesMax: 8 * MIB },
  ...{ expiryBytesMax: 8 * MIB, ingressBytesMax: 8 * MIB, deadLettersBytesMax: MIB },
  ...{ outcomeEventsBytesMax: 4 * MIB, receiptsBytesMax: MIB, scheduleBytesMax: 4 * MIB, auditBytesMax: MIB },
  ...{ tableBytesMax: 4 * MIB, smallTableBytesMax: MIB },
} satisfies Record<keyof StoreSettings & `${string}BytesMax`, number>
const FULL_MS = [3_000, 10_000] as const
const FILLER = 'filler'

function run(command: string, ...args: string[]): void {
  const { status, error, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  if (status !== 0) throw new FaultSkipped(`${command} failed: ${error?.message ?? stderr.trim()}`)
}

/** Writes to the file until the disk is full, although nats-server writes too. Gives the number of bytes written. */
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
  summary: 'the disk of JetStream is full: pushes must be refused, never falsely accepted (needs root to mount)',
  settings: { store },
  setUp: (systemFolder, cleanup) => {
    disk = join(systemFolder, natsFolder)
    mkdirSync(disk, { recursive: true })
    run('mount', '-t', 'tmpfs', '-o', `size=${DISK_MIB}m,mode=0700`, 'tmpfs', disk)
    cleanup.defer(() => run('umount', '-l', disk))
  },
  expectedAnswer: /^503 /,
  inject: ({ system }, random) => {
    const filler = join(disk, FILLER)
    const taken = fill(filler)
    return {
      description: `the last ${taken} bytes of the disk are used`,
      durationMs: between(random, FULL_MS),
      heal: () => {
        rmSync(filler)
        // After a failed write nats-server 2.9 neither answers nor stops at SIGTERM: an operator has to kill it.
        system.kill('nats')
      },
    }
  },
}
