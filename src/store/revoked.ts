/**
 * The table REVOKED, which cores and workers watch: credentials that are void before their time. Values are JSON, so that an
 * operator can read them with any NATS tool.
 */
import { revokedDevicePrefix, revokedFleetPrefix } from '../../protocol/subjects.js'
import type { Table } from '../nats/broker.js'

/** A device that was cut off for good. */
export interface DeviceRevocation {
  device: string
  /** Until when one of its tokens may still be renewed; after that the entry has no use. Infinity: of release 0.1. */
  untilMs: number
}

export async function revokeDevice(table: Table, device: string, nowMs: number, untilMs: number): Promise<void> {
  await table.put(`${revokedDevicePrefix}${device}`, encode({ revokedAt: timeOf(nowMs), until: timeOf(untilMs) }))
}

/** Tokens of the fleet that were issued before `fromMs` are void. */
export async function cutOffFleet(table: Table, fleet: string, fromMs: number): Promise<void> {
  await table.put(`${revokedFleetPrefix}${fleet}`, encode({ tokensFrom: timeOf(fromMs) }))
}

/** Null: not a mark that this release can read. */
export function readFleetMark(value: Uint8Array): number | null {
  const { tokensFrom } = decode(value)
  const fromMs = typeof tokensFrom === 'string' ? Date.parse(tokensFrom) : Number.NaN
  return Number.isFinite(fromMs) ? fromMs : null
}

export function readDeviceRevocation(key: string, value: Uint8Array): DeviceRevocation | null {
  if (!key.startsWith(revokedDevicePrefix)) return null
  const { until } = decode(value)
  const untilMs = typeof until === 'string' ? Date.parse(until) : Number.NaN
  const device = key.slice(revokedDevicePrefix.length)
  return { device, untilMs: Number.isFinite(untilMs) ? untilMs : Number.POSITIVE_INFINITY }
}

const timeOf = (ms: number) => new Date(ms).toISOString()

function encode(fields: object): Uint8Array {
  return Buffer.from(JSON.stringify(fields))
}

function decode(value: Uint8Array): Record<string, unknown> {
  try {
    const fields: unknown = JSON.parse(Buffer.from(value).toString('utf8'))
    return typeof fields === 'object' && fields !== null ? (fields as Record<string, unknown>) : {}
  } catch {
    // Only the key counts for a device; a mark of a fleet without its time marks nothing.
    return {}
  }
}
