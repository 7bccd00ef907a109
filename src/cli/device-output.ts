/** The output of `borealis device`: lines for people, or one JSON object per line. */
import type { DeviceError, Notification, Registration } from '../device/index.js'

export interface Printer {
  ready(deviceId: string, ready: { connection: number; resumed: boolean }): void
  registered(registration: Registration): void
  subscribed(topic: string, registration: Registration): void
  notification(notification: Notification): void
  expired(notification: Notification): void
  gap(gap: { count: number; reason: string }): void
  problem(error: DeviceError): void
  closed(closed: { code: number; name: string; reconnectInMs: number | null }): void
}

export function jsonLines(write: (line: string) => void): Printer {
  const line = (event: string, fields: object) => write(JSON.stringify({ event, ...fields }, plain))
  return {
    ready: (deviceId, { connection, resumed }) => line('ready', { deviceId, connection, resumed }),
    registered: (registration) => line('registration', registration),
    subscribed: (topic, { application }) => line('subscribed', { topic, application }),
    notification: (notification) => line('notification', notification),
    expired: (notification) => line('expired', notification),
    gap: (gap) => line('gap', gap),
    problem: ({ code, message, serverCode, next }) => line('error', { code, message, serverCode, next }),
    closed: (closed) => line('closed', closed),
  }
}

export function textLines(write: (line: string) => void): Printer {
  const line = (text: string) => write(printable(text))
  return {
    ready: (deviceId, { connection, resumed }) =>
      line(`connected as ${deviceId} (connection ${connection}${resumed ? ', resumed' : ''})`),
    registered: ({ application, user, registrationId }) =>
      line(`registered ${application}${user ? ` for ${user}` : ''}: ${registrationId}`),
    subscribed: (topic, { application }) => line(`subscribed to ${topic} for ${application}`),
    notification: (notification) => {
      for (const text of describe(notification)) line(text)
    },
    expired: ({ id, title }) => line(`arrived too late: ${title} (${id})`),
    gap: ({ count, reason }) => line(`${count === 0 ? 'some' : count} messages will not come: ${reason}`),
    problem: (error) => line(`${error.message}. Next: ${error.next}`),
    closed: ({ code, name, reconnectInMs }) => {
      const again = reconnectInMs === null ? '' : `, again in ${(reconnectInMs / 1_000).toFixed(1)} s`
      line(`disconnected: ${name} (${code})${again}`)
    },
  }
}

function describe(n: Notification): string[] {
  const to = n.group ? `${n.group.kind} ${n.group.name}` : n.application
  const marks = [n.priority === 'normal' ? '' : n.priority, n.possibleDuplicate ? 'perhaps a duplicate' : '']
  const suffix = marks.filter((mark) => mark !== '').join(', ')
  const lines = [`>> ${n.title}${suffix ? ` [${suffix}]` : ''}`]
  if (n.message) lines.push(`   ${n.message}`)
  if (Object.keys(n.data).length > 0) lines.push(`   ${JSON.stringify(n.data, plain)}`)
  lines.push(`   ${n.id} for ${to}`)
  return lines
}

/** Values that JSON cannot express: big integers become digits, and bytes become base64. */
function plain(this: unknown, key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return String(value)
  // A Buffer arrives here already converted to an object of numbers, so read the original value.
  const raw = (this as Record<string, unknown>)[key]
  return raw instanceof Uint8Array ? Buffer.from(raw).toString('base64') : value
}

/** Removes control characters, because the text comes from strangers and goes to a terminal. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, ' ')
}
