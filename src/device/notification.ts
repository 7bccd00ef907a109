/** A push as the app sees it. */
import type { Priority } from '../../protocol/frame-types.js'
import { type Data, type DataLimits, decodeData } from './data.js'
import { DeviceError } from './errors.js'
import type { DeviceState, StoredNotification } from './state.js'

export interface Notification {
  /** Message id, decimal. */
  id: string
  /** For which application; null: the device knows no such registration (it lost its state), or a topic or user. */
  application: string | null
  /** The registration it is for; null: a group's. */
  registrationId: string | null
  /** The group it was sent to; null: this registration alone. */
  group: { kind: 'app' | 'topic' | 'user'; name: string; project: string } | null
  title: string
  message: string
  /** Custom attributes; integers beyond 2^53 are bigint. */
  data: Data
  priority: Priority
  collapseKey: string
  /** Null: only now. */
  expiresAt: Date | null
  /** The device stopped while it handed this over: the app may have seen it. */
  possibleDuplicate: boolean
}

export interface Readable {
  notification: Notification
  /** The attributes could not be read: they are left out. */
  error: DeviceError | null
}

export function readNotification(
  stored: StoredNotification,
  possibleDuplicate: boolean,
  state: DeviceState,
  limits: DataLimits,
): Readable {
  const registration = state.registrations.get(stored.registration)
  const { group } = stored
  let data: Data = {}
  let error: DeviceError | null = null
  try {
    data = decodeData(stored.data, limits)
  } catch (cause) {
    error = cause instanceof DeviceError ? cause : new DeviceError('bad_data', undefined, { cause })
  }
  const notification: Notification = {
    id: String(stored.id),
    application: registration?.application ?? (group?.kind === 'app' ? group.name : null),
    registrationId: registration?.registrationId ?? null,
    group: group && { kind: group.kind, name: group.name, project: group.project },
    title: stored.title,
    message: stored.message,
    data,
    priority: stored.priority,
    collapseKey: stored.collapseKey,
    expiresAt: stored.expiresAtMs > 0 ? new Date(stored.expiresAtMs) : null,
    possibleDuplicate,
  }
  return { notification, error }
}
