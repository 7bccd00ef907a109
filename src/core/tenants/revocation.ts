/** Ends of registrations. */
import { CodedError } from '../../../protocol/errors.js'
import type { DeviceRecord, DeviceStore, Registration } from '../../store/devices.js'
import type { RegistrationIndex } from '../../store/registrations.js'

export interface RegistrationStores {
  devices: DeviceStore
  index: RegistrationIndex
  /** Told of the end, so that senders are refused. */
  ended: { add(device: string, registration: number): void }
}

/**
 * Ends a registration: out of the device's record, with its topics. A number that was given and is not in the record has
 * ended, so the record is all that is stored of an end, however often devices register and end. Repeating it is harmless.
 * Throws CodedError `unknown_registration` for a number that was never given.
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
