/**
 * The format of the whole store, in the table STORE: which versions of Borealis can work with it. Single records have a
 * version of their own; this number grows only when a version writes what the one before it cannot work with.
 */
import { Bucket } from '../../protocol/subjects.js'
import { type Broker, BrokerError, type Table } from '../nats/broker.js'

/** The format that this version writes, and the oldest one that it works with. */
export const STORE_FORMAT = 1
const STORE_FORMAT_OLDEST = 1

/** Registration numbers that a restore leaves out; more than one device takes between a backup and its restore. */
const NUMBERS_PER_RESTORE = 10_000

export interface StoreFormat {
  format: number
  /** The version of Borealis that wrote this. */
  writtenBy: string
  /** How often the store was restored from a backup. */
  restores: number
  /** A restore is under way, or it was interrupted. */
  restoring: boolean
}

/** A store that this process cannot work with. Its message says what to do. */
export class StoreFormatError extends Error {
  override readonly name = 'StoreFormatError'
}

const KEY = 'format'

/**
 * Null where no version from 0.2.0 on has used the store. Rejects with StoreFormatError where this version cannot work
 * with it, else with BrokerError.
 */
export async function checkStoreFormat(broker: Broker, version: string): Promise<StoreFormat | null> {
  const found = await readStoreFormat(broker)
  if (found === null) return null
  const { format, writtenBy, restoring } = found
  if (restoring) {
    throw new StoreFormatError(
      'a restore of this store is under way or was interrupted: wait for it, or run `borealis restore DIR --replace`',
    )
  }
  if (format > STORE_FORMAT || format < STORE_FORMAT_OLDEST) {
    const reads = STORE_FORMAT_OLDEST === STORE_FORMAT ? `${STORE_FORMAT}` : `${STORE_FORMAT_OLDEST} to ${STORE_FORMAT}`
    const remedy =
      format > STORE_FORMAT ? `start Borealis ${writtenBy} or newer` : 'upgrade one minor version after the other'
    throw new StoreFormatError(
      `the store has format ${format}, written by Borealis ${writtenBy}; this is Borealis ${version}, which works with ` +
        `format ${reads}: ${remedy}, or restore a backup of that format (docs/operate/upgrade.md)`,
    )
  }
  return found
}

/** Marks a store that no version from 0.2.0 on has used. Harmless where several cores do it at once. */
export async function markStoreFormat(broker: Broker, version: string): Promise<void> {
  try {
    await put(tableOf(broker), { format: STORE_FORMAT, writtenBy: version, restores: 0, restoring: false }, 0)
  } catch (error) {
    if (error instanceof BrokerError && error.code === 'wrong_last_sequence') return
    throw error
  }
}

/** Null: there is none, or no table for it. */
export async function readStoreFormat(broker: Broker): Promise<StoreFormat | null> {
  if (!(await hasStoreTable(broker))) return null
  const entry = await tableOf(broker).get(KEY)
  return entry && (JSON.parse(Buffer.from(entry.value).toString('utf8')) as StoreFormat)
}

/** This check comes first: a read of a table that does not exist gets no answer. */
export async function hasStoreTable(broker: Broker): Promise<boolean> {
  try {
    await broker.log(`KV_${Bucket.STORE}`).state()
    return true
  } catch (error) {
    // A version before 0.2.0 made the store, or nobody did.
    if (error instanceof BrokerError && error.message.includes('stream not found')) return false
    throw error
  }
}

export async function writeStoreFormat(broker: Broker, format: StoreFormat): Promise<void> {
  await put(tableOf(broker), format)
}

/**
 * The lowest number of new registrations. A restore brings back device records that do not know the latest registrations.
 * Their registrationIds are still at app servers, and must not come to mean another application or user of the device.
 */
export async function firstRegistrationNumber(broker: Broker): Promise<number> {
  const found = await readStoreFormat(broker)
  return 1 + (found?.restores ?? 0) * NUMBERS_PER_RESTORE
}

const tableOf = (broker: Broker): Table => broker.table(Bucket.STORE)

async function put(table: Table, format: StoreFormat, expectedRevision?: number): Promise<void> {
  await table.put(KEY, Buffer.from(JSON.stringify(format)), expectedRevision)
}
