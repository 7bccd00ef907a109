/**
 * What can go wrong on a device, beside what the server says (protocol/errors.ts, protocol/close-codes.ts): every code
 * with who acts and what they do. A document lists the same codes.
 */

export interface DeviceErrorKind {
  meaning: string
  /** The next step, for whoever reads the message on a terminal. */
  next: string
}

export const DeviceErrors = {
  state_corrupt: {
    meaning: 'the state file is not one that this program wrote; it was kept aside',
    next: 'start again: the device enrols anew and forgets what it had seen',
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
    meaning: 'the state could not be written, so nothing was acknowledged',
    next: 'free space or fix the permissions: the device tries again by itself',
  },
  not_enrolled: {
    meaning: 'the device has no identity yet',
    next: 'enrol it with an enrolment key',
  },
  enrol_refused: {
    meaning: 'the core refused the enrolment',
    next: 'check the enrolment key',
  },
  enrol_unreachable: {
    meaning: 'the core did not answer the enrolment, or not as a core does',
    next: 'check the address and that the core runs, then try again',
  },
  connect_failed: {
    meaning: 'the transport could not be reached, or refused the connection',
    next: 'nothing: the device tries again by itself',
  },
  handshake_timeout: {
    meaning: 'the transport did not answer in time',
    next: 'nothing: the device tries again by itself',
  },
  half_open: {
    meaning: 'the transport fell silent: no answer to a keepalive in time',
    next: 'nothing: the device reconnects',
  },
  bad_server_bytes: {
    meaning: 'the server sent what is no frame, or a frame that this state does not allow',
    next: 'check that the address is that of a transport: the device tries again by itself',
  },
  closed_by_server: {
    meaning: 'the server closed the connection',
    next: 'as the close code says',
  },
  server_error: {
    meaning: 'the server reported an error for the connection',
    next: 'as its code says',
  },
  request_timeout: {
    meaning: 'the server did not answer a request, however often it was repeated',
    next: 'ask again later',
  },
  request_refused: {
    meaning: 'the server refused a request',
    next: 'as its code says',
  },
  too_many_requests: {
    meaning: 'more requests wait for an answer than the limit',
    next: 'wait for answers before asking for more',
  },
  no_registration: {
    meaning: 'the device has no such registration',
    next: 'register the application first, and name it where there are several',
  },
  handler_failed: {
    meaning: 'the handler of a notification threw: it counts as handed over',
    next: 'mend the handler',
  },
  bad_data: {
    meaning: 'the custom attributes of a notification are not a msgpack map within the limits',
    next: 'mend the sender: the notification is handed over without them',
  },
  stopped: {
    meaning: 'the client is closed',
    next: 'make a new client',
  },
} as const satisfies Record<string, DeviceErrorKind>

export type DeviceErrorCode = keyof typeof DeviceErrors

export interface DeviceErrorOptions extends ErrorOptions {
  /** The code that the server gave: of an ERROR frame, or the name of a close code. */
  serverCode?: string
  /** True: the device does not come back by itself. */
  fatal?: boolean
}

export class DeviceError extends Error {
  readonly serverCode: string | null
  readonly fatal: boolean

  constructor(
    readonly code: DeviceErrorCode,
    message?: string,
    options: DeviceErrorOptions = {},
  ) {
    super(message ? `${DeviceErrors[code].meaning}: ${message}` : DeviceErrors[code].meaning, options)
    this.name = 'DeviceError'
    this.serverCode = options.serverCode ?? null
    this.fatal = options.fatal ?? false
  }

  /** What to do about it. */
  get next(): string {
    return DeviceErrors[this.code].next
  }
}
