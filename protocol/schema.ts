/**
 * borealis.proto as a table of fields, for tools that show bytes to people. A test compares the two. The encoder and
 * the decoder use the generated code instead.
 */
import type { FrameName } from './frame.js'
import { GAP_REASONS, GOAWAY_REASONS, PRIORITIES } from './frame-types.js'

export type BodyName = FrameName | 'ClientInfo' | 'Cursor' | 'GapMark' | 'Limits'

export type FieldShape =
  | { name: string; kind: 'uint32' | 'uint64' | 'fixed32' | 'fixed64' | 'ids' | 'numbers' | 'string' | 'bytes' }
  | { name: string; kind: 'enum'; values: readonly string[] }
  | { name: string; kind: 'message'; body: BodyName }

type Fields = Readonly<Record<number, FieldShape>>

const u32 = (name: string): FieldShape => ({ name, kind: 'uint32' })
const u64 = (name: string): FieldShape => ({ name, kind: 'uint64' })
const f32 = (name: string): FieldShape => ({ name, kind: 'fixed32' })
const f64 = (name: string): FieldShape => ({ name, kind: 'fixed64' })
const str = (name: string): FieldShape => ({ name, kind: 'string' })
const bin = (name: string): FieldShape => ({ name, kind: 'bytes' })
const one = (name: string, values: readonly string[]): FieldShape => ({ name, kind: 'enum', values })
const sub = (name: string, body: BodyName): FieldShape => ({ name, kind: 'message', body })

export const bodies: Readonly<Record<BodyName, Fields>> = {
  HELLO: {
    1: u32('version'),
    2: str('token'),
    3: bin('ticket'),
    4: u64('connection'),
    5: sub('client', 'ClientInfo'),
    6: sub('cursor', 'Cursor'),
    7: sub('gap', 'GapMark'),
  },
  ACK: { 1: { name: 'ids', kind: 'ids' } },
  REGISTER: { 1: u32('request'), 2: str('application'), 3: str('user_token') },
  UNREGISTER: { 1: u32('request'), 2: u32('registration') },
  SUBSCRIBE: { 1: u32('request'), 2: u32('registration'), 3: str('topic') },
  UNSUBSCRIBE: { 1: u32('request'), 2: u32('registration'), 3: str('topic') },
  PING: {},
  BYE: {},
  WELCOME: {
    1: u64('server_time_ms'),
    2: u32('keepalive_seconds'),
    3: sub('limits', 'Limits'),
    4: u32('subscriptions'),
    5: bin('ticket'),
    6: u32('ticket_seconds'),
  },
  NOTIFY: {
    1: f64('id'),
    2: u32('registration'),
    3: f32('expires_at_seconds'),
    4: one('priority', PRIORITIES),
    5: str('collapse_key'),
    6: str('title'),
    7: str('message'),
    8: bin('data'),
  },
  NOTIFY_GROUP: {
    1: f64('id'),
    2: u64('sequence'),
    3: f32('expires_at_seconds'),
    4: one('priority', PRIORITIES),
    5: str('application'),
    6: str('topic'),
    7: str('user'),
    8: str('project'),
    9: str('collapse_key'),
    10: str('title'),
    11: str('message'),
    12: bin('data'),
    13: { name: 'registrations', kind: 'numbers' },
  },
  CAUGHT_UP: { 1: sub('cursor', 'Cursor') },
  REGISTERED: {
    1: u32('request'),
    2: u32('registration'),
    3: str('registration_id'),
    4: u32('subscriptions'),
    5: str('project'),
  },
  DONE: { 1: u32('request'), 2: u32('subscriptions') },
  GAP: { 1: u32('count'), 2: one('reason', GAP_REASONS), 3: sub('mark', 'GapMark') },
  GOAWAY: { 1: one('reason', GOAWAY_REASONS), 2: u32('after_ms'), 3: u32('jitter_ms'), 4: str('url') },
  ERROR: { 1: str('code'), 2: str('detail'), 3: u32('request'), 4: u32('retry_after_ms'), 5: u64('connection') },
  PONG: {},
  ClientInfo: { 1: str('name'), 2: str('version'), 3: str('platform') },
  Cursor: { 1: f64('incarnation'), 2: u64('sequence'), 3: u32('subscriptions') },
  GapMark: { 1: f64('queue'), 2: u32('count') },
  Limits: { 1: u32('frame_bytes_max'), 2: u32('window'), 3: u32('registrations_max'), 4: u32('topics_max') },
}
