/** Fits the sizes of the streams to the disk. */
import { readdirSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { variableOf } from '../../config/leaf.js'
import { streamDefinitions } from '../../nats/server/streams.js'
import type { StoreSettings } from '../../nats/settings.js'

/**
 * Sizes of streams that fit the disk. JetStream reserves the limit of a stream when it creates the stream, and refuses if
 * the sum exceeds the disk. The default sizes need about 13 GB, which a small machine may not have for a first try.
 */
export interface FittedStore {
  store: StoreSettings
  /** Limit for nats-server: the bytes of all streams together. */
  fileBytesMax: number
  /** Null if the sizes are as configured. */
  notice: string | null
  /** The sizes as environment variables, so that the core requests the same streams. */
  environment: Record<string, string>
}

const MIB = 1024 * 1024
/** Share of the disk for the streams. The rest is for other programs. */
const shareMax = 0.75
const streamBytesMin = MIB

type SizeKey = Extract<keyof StoreSettings, `${string}BytesMax`>

export function fitStore(store: StoreSettings, folder: string): FittedStore {
  return fitStoreTo(store, freeBytes(folder) + usedBytes(folder))
}

/** @param diskBytes free bytes, plus the bytes that the store already uses. */
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
    notice: `the disk has room for ${gigabytes(roomBytes)} of streams, not for ${gigabytes(wantedBytes)}: all streams are smaller`,
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

/** nats-server counts a stream twice while it is requested again, before it notices that the stream exists. */
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
