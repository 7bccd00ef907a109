/** Ends a registration, for devices that unregister, and for app servers and operators that revoke. */
import { CodedError } from '../../../protocol/errors.js'
import type { DeviceRecord, DeviceStore, Registration } from '../../store/devices.js'
import type { RegistrationIndex } from '../../store/registrations.js'

export interface RegistrationStores {
  devices: DeviceStore
  index: RegistrationIndex
  /** Informs the cores of the end, so that they refuse senders. */
  ended: { add(device: string, registration: number): void }
}

/**
 * Removes a registration and its topics from the device's record. Nothing else is stored: a registration has ended if its
 * number is below the next number and not in the record. Idempotent. Rejects with CodedError `unknown_registration` for a
 * number that was never assigned.
 */
export async function endRegistration(
  { devices, index, ended: notices }: RegistrationStores,
  { device, registration }: { device: string; registration: number },
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
  notices.add(device, registration)
  if (ended) await unlist({ devices, index }, device, ended)
  return record
}

/** Removes the index entry. If the app has registered again in the meantime, the entry is put back for the new registration. */
async function unlist(
  { devices, index }: Pick<RegistrationStores, 'devices' | 'index'>,
  device: string,
  { project, application, user }: Registration,
): Promise<void> {
  const entry = { project, application, user, device }
  await index.remove(entry)
  const { registrations } = await devices.read(device, { authoritative: true })
  if (registrations.some((r) => r.application === application && r.user === user)) await index.put(entry)
}
