/** A push as the app sees it. */
import type { Priority } from '../../protocol/frame-types.js'
import { type Data, type DataLimits, decodeData } from './data.js'
import { DeviceError } from './errors.js'
import type { DeviceState, Registration, StoredNotification } from './state/state.js'

export interface Notification {
  /** Message id, decimal. */
  id: string
  /** For which application; where a group reaches several on this device, the first. */
  application: string
  /** All of them: one for a registration, any number for a group. */
  applications: string[]
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

/** Null: nobody on the device is there to see it (any more). */
export function readNotification(
  stored: StoredNotification,
  possibleDuplicate: boolean,
  state: DeviceState,
  limits: DataLimits,
): Readable | null {
  const registrations = registrationsOf(stored, state)
  const [first] = registrations
  if (!first) return null
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
    application: first.application,
    applications: [...new Set(registrations.map(({ application }) => application))],
    registrationId: group ? null : first.registrationId,
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

/** Whether somebody on the device is known to be meant: where not, an answer that is to come may name somebody. */
export function hasReceiver(stored: StoredNotification, state: DeviceState): boolean {
  return namedBy(stored, state).length > 0
}

/** Whom a notification is for: PROTOCOL.md, "Group notifications". */
function registrationsOf(stored: StoredNotification, state: DeviceState): Registration[] {
  const named = namedBy(stored, state)
  const { group } = stored
  if (named.length > 0 || group?.kind !== 'topic') return named
  // Nobody here asked for the topic, and the service sends it: an app server subscribed one of its project's.
  return [...state.registrations.values()].filter(({ project }) => project === group.project)
}

/** Those that are told by name. Topics and users are names within a project. */
function namedBy({ registration, group }: StoredNotification, state: DeviceState): Registration[] {
  if (!group) {
    const one = state.registrations.get(registration)
    return one ? [one] : []
  }
  return [...state.registrations.values()].filter(({ application, user, project }) => {
    if (group.kind === 'app') return application === group.name
    if (project !== '' && project !== group.project) return false
    if (group.kind === 'user') return user === group.name
    return state.isSubscribed({ application, user, topic: group.name })
  })
}
