/**
 * Every number of PROTOCOL.md, with its unit and meaning: section "Limits" has the same tables (a test compares them).
 */
import { DEVICE_FRAME_BYTES_MAX, LENGTH_PREFIX_BYTES_MAX, SERVER_FRAME_BYTES_MAX } from './frame.js'

export interface Bound {
  value: number
  unit: string
  meaning: string
}

/** Part of the protocol: the same for every version 1 peer. */
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
  TOKEN_CHARS_MAX: { value: 2_048, unit: 'characters', meaning: 'longest device token' },
  TICKET_BYTES_MAX: { value: 1_024, unit: 'bytes', meaning: 'longest resume ticket that a server makes' },
  DATA_DEPTH_MAX: { value: 16, unit: 'levels', meaning: 'deepest nesting of maps and arrays in data' },
} as const satisfies Record<string, Bound>

/** What every server grants at least; a device that stays below is never cut for it. */
export const ServerFloors = {
  HELLO_TIMEOUT: { value: 5_000, unit: 'ms', meaning: 'time from the open WebSocket to HELLO' },
  FRAMES_PER_SECOND: {
    value: 50,
    unit: 'frames',
    meaning: 'frames a second from a device, useful ACKs not counted',
  },
  REQUESTS_IN_FLIGHT: { value: 8, unit: 'requests', meaning: 'requests of a device without an answer' },
} as const satisfies Record<string, Bound>

/** Recommended to devices, and what Borealis' own device does unless it is told otherwise. */
export const DeviceTimes = {
  CONNECT_TIMEOUT: { value: 10_000, unit: 'ms', meaning: 'longest wait for an open WebSocket' },
  WELCOME_TIMEOUT: { value: 10_000, unit: 'ms', meaning: 'longest wait for WELCOME after HELLO' },
  PONG_TIMEOUT: { value: 15_000, unit: 'ms', meaning: 'longest wait for the answer to a keepalive' },
  REQUEST_TIMEOUT: { value: 10_000, unit: 'ms', meaning: 'a request without an answer is sent again after so long' },
  REQUEST_SPACING: {
    value: 25,
    unit: 'ms',
    meaning: 'time between two requests, so that many stay below FRAMES_PER_SECOND',
  },
  RECONNECT_BASE: { value: 1_000, unit: 'ms', meaning: 'first reconnect: a random time up to this' },
  RECONNECT_CAP: { value: 60_000, unit: 'ms', meaning: 'longest random time before a reconnect' },
  STABLE: { value: 10_000, unit: 'ms', meaning: 'a connection that lived so long after WELCOME resets the backoff' },
  HINT_MAX: { value: 600_000, unit: 'ms', meaning: 'longest hint of a server that is obeyed in full' },
  SEEN_KEEP: { value: 3_600_000, unit: 'ms', meaning: 'a message id is remembered so long after its message expired' },
  SEEN_IDS: { value: 10_000, unit: 'ids', meaning: 'so many message ids at least are remembered' },
} as const satisfies Record<string, Bound>
