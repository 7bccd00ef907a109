import { readdirSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { variableOf } from '../../config/leaf.js'
import { streamDefinitions } from '../../nats/server/streams.js'
import type { StoreSettings } from '../../nats/settings.js'

/**
 * Stream sizes that fit the disk. JetStream reserves every stream's limit when it is made, and refuses where the sum is
 * more than the disk has: the default sizes want about 13 GB, which a small machine may not have for a first look.
 */
export interface FittedStore {
  store: StoreSettings
  /** For nats-server: what the streams may take in all. */
  fileBytesMax: number
  /** Null where the sizes are as configured. */
  notice: string | null
  /** The sizes as variables, so that the core asks for the same streams. */
  environment: Record<string, string>
}

const MIB = 1024 * 1024
/** The rest of the disk is for everybody else. */
const shareMax = 0.75
const streamBytesMin = MIB

type SizeKey = Extract<keyof StoreSettings, `${string}BytesMax`>

export function fitStore(store: StoreSettings, folder: string): FittedStore {
  return fitStoreTo(store, freeBytes(folder) + usedBytes(folder))
}

/** `diskBytes`: free, with what the store takes already. */
export function fitStoreTo(store: StoreSettings, diskBytes: number): FittedStore {
  const roomBytes = Math.floor(diskBytes * shareMax)
  const wantedBytes = totalBytes(store)
  if (wantedBytes <= roomBytes) return { store, fileBytesMax: limitFor(store), notice: null, environment: {} }
  const factor = roomBytes / wantedBytes
  const sizes = Object.fromEntries(
    sizeKeys(store).map((key) => [key, Math.max(streamBytesMin, Math.floor(store[key] * factor))]),
  ) as Record<SizeKey, number>
  const fitted = { ...store, ...sizes }
  return {
    store: fitted,
    fileBytesMax: limitFor(fitted),
    notice: `the disk has room for ${gigabytes(roomBytes)} of streams, not for ${gigabytes(wantedBytes)}: all are smaller`,
    environment: Object.fromEntries(
      Object.entries(sizes).map(([key, size]) => [variableOf(`store.${key}`), String(size)]),
    ),
  }
}

function sizeKeys(store: StoreSettings): SizeKey[] {
  return Object.keys(store).filter((key): key is SizeKey => key.endsWith('BytesMax'))
}

function totalBytes(store: StoreSettings): number {
  return streamDefinitions(store).reduce((sum, { bytesMax }) => sum + bytesMax, 0)
}

/** nats-server counts a stream that is asked for again as one more before it sees that it has it. */
function limitFor(store: StoreSettings): number {
  return totalBytes(store) + 2 * Math.max(...streamDefinitions(store).map(({ bytesMax }) => bytesMax))
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`
}

function freeBytes(folder: string): number {
  const { bavail, bsize } = statfsSync(folder)
  return bavail * bsize
}

function usedBytes(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + sizeOf(join(entry.parentPath, entry.name)), 0)
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0
}
