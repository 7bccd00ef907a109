/**
 * The states of a device connection, and the frames that each end may send in each state. PROTOCOL.md, section
 * "States", has the same table and diagram; a test compares them. A frame of an unknown type may come in every state:
 * the receiver skips it.
 */
import type { FrameName } from './frame.js'

export type ConnectionState = 'opened' | 'greeted' | 'catching_up' | 'live' | 'closed'

interface StateRules {
  device: readonly FrameName[]
  server: readonly FrameName[]
}

const fromDevice = ['ACK', 'REGISTER', 'UNREGISTER', 'SUBSCRIBE', 'UNSUBSCRIBE', 'PING', 'BYE'] as const
const fromServer = [
  'NOTIFY',
  'NOTIFY_GROUP',
  'CAUGHT_UP',
  'REGISTERED',
  'DONE',
  'GAP',
  'GOAWAY',
  'ERROR',
  'PONG',
] as const

export const States: Readonly<Record<ConnectionState, StateRules>> = {
  /** The WebSocket is open; HELLO is to come. */
  opened: { device: ['HELLO'], server: ['GOAWAY', 'ERROR'] },
  /** HELLO was sent; WELCOME is to come. */
  greeted: { device: [], server: ['WELCOME', 'GOAWAY', 'ERROR'] },
  /** After WELCOME: the server sends what the device missed. */
  catching_up: { device: fromDevice, server: fromServer },
  /** After the first CAUGHT_UP. */
  live: { device: fromDevice, server: fromServer },
  closed: { device: [], server: [] },
}

/** The frames that change the state. A close changes every state to `closed`. */
export const Transitions: readonly { from: ConnectionState; on: FrameName; to: ConnectionState }[] = [
  { from: 'opened', on: 'HELLO', to: 'greeted' },
  { from: 'greeted', on: 'WELCOME', to: 'catching_up' },
  { from: 'catching_up', on: 'CAUGHT_UP', to: 'live' },
  { from: 'catching_up', on: 'BYE', to: 'closed' },
  { from: 'live', on: 'BYE', to: 'closed' },
]
