/** What has ended: devices and registrations in the table REVOKED, which gateways and workers watch. */
import { CodedError } from '../../../protocol/errors.js'
import type { Table } from '../../nats/broker.js'
import type { DeviceRecord, DeviceStore, Registration } from '../../store/devices.js'
import type { RegistrationIndex } from '../../store/registrations.js'

export const revokedDeviceKey = (device: string) => `device.${device}`
export const revokedRegistrationKey = (device: string, registration: number) => `registration.${device}.${registration}`

export async function revokeDeviceKey(revoked: Table, device: string, nowMs: number): Promise<void> {
  await revoked.put(revokedDeviceKey(device), markOf(nowMs))
}

export interface RegistrationStores {
  devices: DeviceStore
  /** The table REVOKED. */
  revoked: Table
  index: RegistrationIndex
}

/**
 * Ends a registration: out of the device's record, with its topics, then into REVOKED. Repeating it is harmless, so
 * that a crash between the two is mended by whoever tries again. Throws CodedError `unknown_registration` for a number
 * that was never given.
 */
export async function endRegistration(
  { devices, revoked, index }: RegistrationStores,
  { device, registration, nowMs }: { device: string; registration: number; nowMs: number },
): Promise<DeviceRecord> {
  let ended: Registration | undefined
  const record = await devices.update(device, (before) => {
    if (registration < 1 || registration >= before.nextNumber) throw new CodedError('unknown_registration')
    ended = before.registrations.find((r) => r.number === registration)
    if (!ended) return null
    return {
      ...before,
      version: before.version + 1,
      registrations: before.registrations.filter((r) => r.number !== registration),
      topics: before.topics.filter((t) => t.registration !== registration),
    }
  })
  await revoked.put(revokedRegistrationKey(device, registration), markOf(nowMs))
  if (ended) await unlist({ devices, index }, device, ended)
  return record
}

/** Where the app registered again meanwhile, the entry is the new registration's. */
async function unlist(
  { devices, index }: Pick<RegistrationStores, 'devices' | 'index'>,
  device: string,
  { project, application, user }: Registration,
): Promise<void> {
  const place = { project, application, user, device }
  await index.remove(place)
  const { registrations } = await devices.read(device, { authoritative: true })
  if (registrations.some((r) => r.application === application && r.user === user)) await index.put(place)
}

/** The value is for people; only the key counts. */
function markOf(nowMs: number): Uint8Array {
  return Buffer.from(JSON.stringify({ revokedAt: new Date(nowMs).toISOString() }))
}
