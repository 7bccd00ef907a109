/** Turns a stored notification into the form that the app receives, and finds the registrations that it is for. */
import type { Priority } from '../../protocol/frame-types.js'
import { type Data, type DataLimits, decodeData } from './data.js'
import { DeviceError } from './errors.js'
import type { DeviceState, Registration, StoredNotification } from './state/state.js'

export interface Notification {
  /** Message id as a decimal string. */
  id: string
  /** The first of `applications`. */
  application: string
  /** The applications that receive it: one for a push to a registration, one or more for a group message. */
  applications: string[]
  /** The registration that it is for; null: a group message. */
  registrationId: string | null
  /** The addressed group; null: a push to one registration. */
  group: { kind: 'app' | 'topic' | 'user'; name: string; project: string } | null
  title: string
  message: string
  /** Custom attributes. An integer beyond 2^53 is a bigint. */
  data: Data
  priority: Priority
  collapseKey: string
  /** Null: the notification is valid only at its arrival. */
  expiresAt: Date | null
  /** The device stopped during the hand-over, so the app may have seen the notification. */
  possibleDuplicate: boolean
}

export interface Readable {
  notification: Notification
  /** `bad_data`: the attributes do not decode, so `data` is empty. */
  error: DeviceError | null
}

/** Null: no registration on the device receives the notification. */
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

/** Whether a known registration receives the notification. If not, a pending REGISTERED or DONE may still add one. */
export function hasReceiver(stored: StoredNotification, state: DeviceState): boolean {
  return matchingRegistrations(stored, state).length > 0
}

/** The registrations that receive a notification. PROTOCOL.md, "Group notifications". */
function registrationsOf(stored: StoredNotification, state: DeviceState): Registration[] {
  const matching = matchingRegistrations(stored, state)
  const { group } = stored
  if (matching.length > 0 || group?.kind !== 'topic' || group.registrations.length > 0) return matching
  // The server does not tell the registrations, and none subscribed to the topic from this device. So an app server
  // subscribed one of its project: all registrations of the project receive the message.
  return [...state.registrations.values()].filter(({ project }) => project === group.project)
}

/** The registrations that the notification addresses. Names of topics and users are unique within a project only. */
function matchingRegistrations({ registration, group }: StoredNotification, state: DeviceState): Registration[] {
  if (!group) {
    const one = state.registrations.get(registration)
    return one ? [one] : []
  }
  if (group.registrations.length > 0)
    return group.registrations.flatMap((number) => state.registrations.get(number) ?? [])
  return [...state.registrations.values()].filter(({ application, user, project }) => {
    if (group.kind === 'app') return application === group.name
    if (project !== '' && project !== group.project) return false
    if (group.kind === 'user') return user === group.name
    return state.isSubscribed({ application, user, topic: group.name })
  })
}
