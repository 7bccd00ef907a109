/** What has ended: devices and registrations in the table REVOKED, which gateways and workers watch. */
import { CodedError } from '../../../protocol/errors.js'
import type { Table } from '../../fabric/fabric.js'
import type { DeviceRecord, DeviceStore } from '../../store/devices.js'

export const revokedDeviceKey = (device: string) => `device.${device}`
export const revokedRegistrationKey = (device: string, registration: number) => `registration.${device}.${registration}`

export async function revokeDeviceKey(revoked: Table, device: string, nowMs: number): Promise<void> {
  await revoked.put(revokedDeviceKey(device), markOf(nowMs))
}

/**
 * Ends a registration: out of the device's record, with its topics, then into REVOKED. Repeating it is harmless, so
 * that a crash between the two is mended by whoever tries again. Throws CodedError `unknown_registration` for a number
 * that was never given.
 */
export async function endRegistration(
  devices: DeviceStore,
  revoked: Table,
  { device, registration, nowMs }: { device: string; registration: number; nowMs: number },
): Promise<DeviceRecord> {
  const record = await devices.update(device, (before) => {
    if (registration < 1 || registration >= before.nextNumber) throw new CodedError('unknown_registration')
    if (!before.registrations.some((r) => r.number === registration)) return null
    return {
      ...before,
      version: before.version + 1,
      registrations: before.registrations.filter((r) => r.number !== registration),
      topics: before.topics.filter((t) => t.registration !== registration),
    }
  })
  await revoked.put(revokedRegistrationKey(device, registration), markOf(nowMs))
  return record
}

/** The value is for people; only the key counts. */
function markOf(nowMs: number): Uint8Array {
  return Buffer.from(JSON.stringify({ revokedAt: new Date(nowMs).toISOString() }))
}
