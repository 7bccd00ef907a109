/**
 * The errors of the device library: its own, and the server's that it passes on (protocol/errors.ts,
 * protocol/close-codes.ts). Each has a meaning and a next step. A test compares them with docs/receive/device-library.md.
 */
import { Close, type CloseName } from '../../protocol/close-codes.js'
import { type DeviceMove, DeviceRequestErrors } from '../../protocol/errors.js'

export interface DeviceErrorKind {
  meaning: string
  /** The next step, for the person who reads the message. */
  next: string
}

export const DeviceErrors = {
  state_corrupt: {
    meaning: 'the state file does not hold a state of this program; it was kept aside',
    next: 'start again: the device enrols anew and forgets the messages that it had seen',
  },
  state_version: {
    meaning: 'the state file was written by a newer version',
    next: 'start the newer version, or name another file',
  },
  state_locked: {
    meaning: 'another process uses the state file',
    next: 'stop that process, or give this device a state file of its own',
  },
  state_unwritable: {
    meaning: 'the state could not be written, so the device acknowledged nothing',
    next: 'free space on the disk, or fix the permissions: the device tries again by itself',
  },
  not_enrolled: {
    meaning: 'the device has no identity yet',
    next: 'enrol the device with an enrolment key',
  },
  enrol_refused: {
    meaning: 'the core refused the enrolment',
    next: 'check the enrolment key, or ask the operator for a valid one',
  },
  enrol_unreachable: {
    meaning: 'the core did not answer the enrolment, or the answer is not that of a core',
    next: 'check the address, and that the core runs, then try again',
  },
  renew_refused: {
    meaning: 'the core will not renew the token of this device',
    next: 'enrol the device anew: give it an enrolment key and start it again',
  },
  renew_unreachable: {
    meaning: 'the core did not answer the renewal of the token, or the answer is not that of a core',
    next: 'nothing: the device tries again by itself',
  },
  connect_failed: {
    meaning: 'the device could not reach the transport, or the transport refused the connection',
    next: 'nothing: the device tries again by itself',
  },
  handshake_timeout: {
    meaning: 'the transport did not answer in time',
    next: 'nothing: the device tries again by itself',
  },
  half_open: {
    meaning: 'the transport did not answer a keepalive in time',
    next: 'nothing: the device reconnects',
  },
  bad_server_bytes: {
    meaning: 'the server sent bytes that are not a frame, or a frame that the state of the connection does not allow',
    next: 'check that the address is that of a transport; the device tries again by itself',
  },
  closed_by_server: {
    meaning: 'the server closed the connection for good',
    next: 'depends on the close code (PROTOCOL.md, "Close codes"); `next` of the error says it',
  },
  server_error: {
    meaning: 'the server reported an error of the connection',
    next: 'mostly nothing: the device reconnects by itself; `next` of the error says otherwise where it has to',
  },
  request_timeout: {
    meaning: 'the server did not answer a request, although the device repeated it',
    next: 'ask again later',
  },
  request_refused: {
    meaning: 'the server refused a request',
    next: 'depends on its code (PROTOCOL.md, "ERROR"); `next` of the error says it',
  },
  too_many_requests: {
    meaning: 'more requests wait for an answer than the limit allows',
    next: 'wait for answers before you ask for more',
  },
  no_registration: {
    meaning: 'the device does not have this registration',
    next: 'register the application first; if there are several registrations, name one',
  },
  handler_failed: {
    meaning: 'the handler of a notification threw; the notification counts as handed over',
    next: 'correct the handler',
  },
  bad_data: {
    meaning: 'the custom attributes of a notification are not a msgpack map within the limits',
    next: 'correct the sender; the notification was handed over without them',
  },
  stopped: {
    meaning: 'the client is closed',
    next: 'make a new client',
  },
} as const satisfies Record<string, DeviceErrorKind>

export type DeviceErrorCode = keyof typeof DeviceErrors

export interface DeviceErrorOptions extends ErrorOptions {
  /** Code of an ERROR frame or an HTTP answer, or the name of a close code. */
  serverCode?: string
  /** True: the device does not reconnect by itself. */
  fatal?: boolean
  /** Shortest wait before another attempt, from the server's answer; 0: the answer has no hint. */
  retryAfterMs?: number
}

export class DeviceError extends Error {
  readonly serverCode: string | null
  readonly fatal: boolean
  readonly retryAfterMs: number

  constructor(
    readonly code: DeviceErrorCode,
    message?: string,
    options: DeviceErrorOptions = {},
  ) {
    super(message ? `${DeviceErrors[code].meaning}: ${message}` : DeviceErrors[code].meaning, options)
    this.name = 'DeviceError'
    this.serverCode = options.serverCode ?? null
    this.fatal = options.fatal ?? false
    this.retryAfterMs = options.retryAfterMs ?? 0
  }

  /** The next step, for the person who reads the error. */
  get next(): string {
    return (this.serverCode === null ? null : nextAfter(this.code, this.serverCode)) ?? DeviceErrors[this.code].next
  }
}

/** The next step for the server's code; null: the next step depends on the device's code alone. */
function nextAfter(code: DeviceErrorCode, serverCode: string): string | null {
  if (code === 'request_refused' && serverCode in DeviceRequestErrors) {
    return NEXT_OF_MOVE[DeviceRequestErrors[serverCode as keyof typeof DeviceRequestErrors].next]
  }
  if ((code === 'closed_by_server' || code === 'server_error') && serverCode in Close) {
    return NEXT_AFTER_STOP[serverCode as CloseName] ?? 'nothing: the device reconnects by itself'
  }
  return null
}

const NEXT_OF_MOVE: Record<DeviceMove, string> = {
  fix: 'correct what the message says, then ask again',
  give_up: 'do not ask again: the service will not accept it',
  register: 'register the application again',
  retry: 'ask again later',
}

/** The next step after each close code that stops the device. */
const NEXT_AFTER_STOP: Partial<Record<CloseName, string>> = {
  unsupported_version: 'update this device, or the service',
  bad_token:
    'check that the device connects to the service that enrolled it; else enrol it anew, with a new state file',
  token_expired: 'give the device the address of the core, where it renews its token, and start it again',
  connection_ahead: 'give the device the address of the core, where it renews its token, and start it again',
  revoked: 'ask the operator',
  replaced:
    'find the other device or process that has the same identity, such as a copy of the state file, and stop it',
}
