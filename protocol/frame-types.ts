/**
 * The frames as values, one interface for each, with the fields of borealis.proto.
 *
 * Wire types map to values like this: fixed64 (ids, incarnations) is an opaque bigint; uint64 (counters, sequences,
 * times) is a number up to 2^53-1, and greater values are refused; an unknown enum value reads as the value 0; an
 * absent message reads as null; an absent scalar reads as 0, '' or no bytes.
 */

/** A token or a ticket. Fields of this type are null if HELLO has neither, or has a kind of a later version. */
export type Credential = { kind: 'token'; token: string } | { kind: 'ticket'; ticket: Uint8Array }

export interface ClientInfo {
  name: string
  version: string
  platform: string
}

/** The position of a device in the log of group messages. */
export interface Cursor {
  incarnation: bigint
  sequence: number
  /** The version of the subscriptions with which the device was caught up. */
  subscriptions: number
}

/** The losses of one offline queue: `count` is the number of messages that this queue has dropped so far. */
export interface GapMark {
  queue: bigint
  count: number
}

export interface Limits {
  frameBytesMax: number
  window: number
  registrationsMax: number
  topicsMax: number
}

/** The order of this list and of the next two is that of the numbers on the wire. */
export const PRIORITIES = ['normal', 'high', 'low'] as const
export type Priority = (typeof PRIORITIES)[number]
export const GAP_REASONS = ['unspecified', 'queue_overflow', 'log_reset', 'log_truncated'] as const
export type GapReason = (typeof GAP_REASONS)[number]
export const GOAWAY_REASONS = ['shutdown', 'rebalance', 'upgrade'] as const
export type GoawayReason = (typeof GOAWAY_REASONS)[number]

// ---- device to server -------------------------------------------------------------------------

export interface HelloFrame {
  type: 'HELLO'
  version: number
  credential: Credential | null
  connection: number
  client: ClientInfo | null
  cursor: Cursor | null
  gap: GapMark | null
}

export interface AckFrame {
  type: 'ACK'
  ids: bigint[]
}

export interface RegisterFrame {
  type: 'REGISTER'
  request: number
  application: string
  userToken: string
}

export interface UnregisterFrame {
  type: 'UNREGISTER'
  request: number
  registration: number
}

export interface SubscribeFrame {
  type: 'SUBSCRIBE'
  request: number
  registration: number
  topic: string
}

export interface UnsubscribeFrame {
  type: 'UNSUBSCRIBE'
  request: number
  registration: number
  topic: string
}

export interface PingFrame {
  type: 'PING'
}

export interface ByeFrame {
  type: 'BYE'
}

export type DeviceFrame =
  | HelloFrame
  | AckFrame
  | RegisterFrame
  | UnregisterFrame
  | SubscribeFrame
  | UnsubscribeFrame
  | PingFrame
  | ByeFrame

// ---- server to device -------------------------------------------------------------------------

export interface WelcomeFrame {
  type: 'WELCOME'
  serverTimeMs: number
  keepaliveSeconds: number
  limits: Limits
  subscriptions: number
  ticket: Uint8Array
  ticketSeconds: number
}

/** The part that reaches the app, the same for one device and for a group. */
export interface NotificationContent {
  /** Unix seconds; 0: only for devices that are connected now. */
  expiresAtSeconds: number
  priority: Priority
  collapseKey: string
  title: string
  message: string
  /** msgpack map; empty: none. */
  data: Uint8Array
}

export interface NotifyFrame extends NotificationContent {
  type: 'NOTIFY'
  id: bigint
  registration: number
}

export interface GroupTarget {
  kind: 'app' | 'topic' | 'user'
  name: string
}

export interface NotifyGroupFrame extends NotificationContent {
  type: 'NOTIFY_GROUP'
  id: bigint
  sequence: number
  /** Null: a kind of a later version. */
  target: GroupTarget | null
  project: string
  /** The numbers of the registrations that it is for; empty: the server does not tell, and the target decides. */
  registrations: readonly number[]
}

export interface CaughtUpFrame {
  type: 'CAUGHT_UP'
  cursor: Cursor | null
}

export interface RegisteredFrame {
  type: 'REGISTERED'
  request: number
  registration: number
  registrationId: string
  subscriptions: number
  /** The project of the application; empty: an older service did not tell it. */
  project: string
}

export interface DoneFrame {
  type: 'DONE'
  request: number
  subscriptions: number
}

export interface GapFrame {
  type: 'GAP'
  count: number
  reason: GapReason
  mark: GapMark | null
}

export interface GoawayFrame {
  type: 'GOAWAY'
  reason: GoawayReason
  afterMs: number
  jitterMs: number
  url: string
}

export interface ErrorFrame {
  type: 'ERROR'
  /** A code of errors.ts or a name of close-codes.ts; a later version may send others. */
  code: string
  detail: string
  /** 0: the error is about the connection. */
  request: number
  /** 0: no hint. */
  retryAfterMs: number
  /** With `stale_connection`: the number that the service has seen; 0: not told. */
  connection: number
}

export interface PongFrame {
  type: 'PONG'
}

export type ServerFrame =
  | WelcomeFrame
  | NotifyFrame
  | NotifyGroupFrame
  | CaughtUpFrame
  | RegisteredFrame
  | DoneFrame
  | GapFrame
  | GoawayFrame
  | ErrorFrame
  | PongFrame

export type Frame = DeviceFrame | ServerFrame

/** A frame of a type that this version does not know. The decoder skips its body. */
export interface UnknownFrame {
  type: 'UNKNOWN'
  /** The type byte. */
  code: number
  bodyBytes: number
}

export interface FramesFrom {
  device: DeviceFrame
  server: ServerFrame
}
