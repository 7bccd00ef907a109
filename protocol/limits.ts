/**
 * Every number of PROTOCOL.md, with its unit and meaning. A test compares these tables with those of section "Limits".
 */
import { DEVICE_FRAME_BYTES_MAX, LENGTH_PREFIX_BYTES_MAX, SERVER_FRAME_BYTES_MAX } from './frame.js'

export interface Bound {
  value: number
  unit: string
  meaning: string
}

/** Limits that are part of the protocol: the same for every version 1 peer. */
export const WireLimits = {
  DEVICE_FRAME_BYTES_MAX: {
    value: DEVICE_FRAME_BYTES_MAX,
    unit: 'bytes',
    meaning: 'longest frame (type and body) from a device; WELCOME may tell a smaller one',
  },
  SERVER_FRAME_BYTES_MAX: {
    value: SERVER_FRAME_BYTES_MAX,
    unit: 'bytes',
    meaning: 'longest frame (type and body) from a server',
  },
  DEVICE_MESSAGE_BYTES_MAX: {
    value: DEVICE_FRAME_BYTES_MAX + LENGTH_PREFIX_BYTES_MAX,
    unit: 'bytes',
    meaning: 'longest WebSocket message from a device, all its frames together',
  },
  SERVER_MESSAGE_BYTES_MAX: {
    value: SERVER_FRAME_BYTES_MAX + LENGTH_PREFIX_BYTES_MAX,
    unit: 'bytes',
    meaning: 'longest WebSocket message from a server, all its frames together',
  },
  LENGTH_PREFIX_BYTES_MAX: { value: LENGTH_PREFIX_BYTES_MAX, unit: 'bytes', meaning: 'longest length prefix' },
  NESTING_MAX: { value: 100, unit: 'levels', meaning: 'deepest field, counted in messages and groups below the body' },
  INTEGER_MAX: {
    value: Number.MAX_SAFE_INTEGER,
    unit: '',
    meaning: 'greatest uint64 value: connection numbers, sequences, times (2^53-1)',
  },
  CONNECTION_STEP: {
    value: 2 ** 24,
    unit: 'numbers',
    meaning: 'most by which a connection number exceeds the one that the service has seen (2^24)',
  },
  TOKEN_CHARS_MAX: { value: 2_048, unit: 'characters', meaning: 'longest device token' },
  TICKET_BYTES_MAX: { value: 1_024, unit: 'bytes', meaning: 'longest resume ticket that a server makes' },
  DATA_DEPTH_MAX: { value: 16, unit: 'levels', meaning: 'deepest nesting of maps and arrays in data' },
} as const satisfies Record<string, Bound>

/** Limits that every server grants at least: a server never closes a device that stays below them. */
export const ServerFloors = {
  HELLO_TIMEOUT: { value: 5_000, unit: 'ms', meaning: 'time from the open WebSocket to HELLO' },
  FRAMES_PER_SECOND: {
    value: 50,
    unit: 'frames',
    meaning: 'frames a second from a device; ACKs that the server waits for do not count',
  },
  REQUESTS_IN_FLIGHT: { value: 8, unit: 'requests', meaning: 'requests of a device without an answer' },
} as const satisfies Record<string, Bound>

/** Times and counts recommended to devices; the device library uses them as defaults. */
export const DeviceTimes = {
  ENROL_TIMEOUT: { value: 10_000, unit: 'ms', meaning: 'longest wait for the answer to an enrolment' },
  CONNECT_TIMEOUT: { value: 10_000, unit: 'ms', meaning: 'longest wait for an open WebSocket' },
  WELCOME_TIMEOUT: { value: 10_000, unit: 'ms', meaning: 'longest wait for WELCOME after HELLO' },
  PONG_TIMEOUT: { value: 15_000, unit: 'ms', meaning: 'longest wait for the answer to a keepalive' },
  REQUEST_TIMEOUT: {
    value: 10_000,
    unit: 'ms',
    meaning: 'a request that has no answer after this time is sent again',
  },
  REQUEST_SPACING: {
    value: 25,
    unit: 'ms',
    meaning: 'time between two requests, so that many of them stay below FRAMES_PER_SECOND',
  },
  RECONNECT_BASE: { value: 1_000, unit: 'ms', meaning: 'the first reconnect waits a random time up to this' },
  RECONNECT_CAP: { value: 60_000, unit: 'ms', meaning: 'longest random time before a reconnect' },
  STABLE: {
    value: 10_000,
    unit: 'ms',
    meaning: 'a connection that has lived this long after WELCOME resets the backoff',
  },
  HINT_MAX: { value: 600_000, unit: 'ms', meaning: 'longest hint of a server that is obeyed in full' },
  SEEN_KEEP: {
    value: 3_600_000,
    unit: 'ms',
    meaning: 'a message id is remembered this long after its message expired',
  },
  SEEN_IDS: { value: 10_000, unit: 'ids', meaning: 'least number of message ids that are remembered' },
} as const satisfies Record<string, Bound>

/** The longest fields of bodies, as this service sends and accepts them. */
export const FieldLimits = {
  APPLICATION_ID_CHARS: { value: 24, unit: 'characters', meaning: '`app_` and 20 of [a-z0-9]' },
  PROJECT_ID_CHARS_MAX: { value: 64, unit: 'characters', meaning: '[A-Za-z0-9_-]' },
  TOPIC_CHARS_MAX: { value: 64, unit: 'characters', meaning: '[A-Za-z0-9_.-]' },
  USER_CHARS_MAX: { value: 128, unit: 'UTF-16 units', meaning: 'any text; the claim `sub` of a user token' },
  REGISTRATION_ID_CHARS_MAX: { value: 512, unit: 'characters', meaning: '[A-Za-z0-9_-]; about 140 today' },
  COLLAPSE_KEY_CHARS_MAX: { value: 64, unit: 'code points', meaning: 'any text (setting)' },
  TITLE_CHARS_MAX: { value: 512, unit: 'code points', meaning: 'any text (setting)' },
  MESSAGE_CHARS_MAX: { value: 2_048, unit: 'code points', meaning: 'any text (setting)' },
  DATA_BYTES_MAX: { value: 4_096, unit: 'bytes', meaning: 'the msgpack map (setting)' },
} as const satisfies Record<string, Bound>
