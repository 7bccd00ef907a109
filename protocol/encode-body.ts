/** Encodes bodies of frames, with the code generated from borealis.proto. */
import { EncodeError } from './encode-error.js'
import {
  type Cursor,
  type Frame,
  GAP_REASONS,
  type GapMark,
  GOAWAY_REASONS,
  type HelloFrame,
  type NotificationContent,
  type NotifyGroupFrame,
  PRIORITIES,
} from './frame-types.js'
import { borealis } from './generated/frames.js'
import { fromBigint, fromSafeNumber, type Wire64 } from './int64.js'

const v1 = borealis.v1

/** The declared type of 64-bit fields in the generated code; at run time it accepts any pair of low and high. */
type GeneratedLong = NonNullable<borealis.v1.GapMark.$Properties['queue']>

type BodiedFrame = Exclude<Frame, { type: 'PING' | 'PONG' | 'BYE' | 'NOTIFY_GROUP' }>

export function encodeBody(frame: BodiedFrame): Uint8Array {
  switch (frame.type) {
    case 'HELLO':
      return v1.Hello.encode(hello(frame)).finish()
    case 'ACK':
      return v1.Ack.encode({ ids: frame.ids.map((id) => fixed64(id, 'id')) }).finish()
    case 'REGISTER':
      return v1.Register.encode({
        request: uint32(frame.request, 'request'),
        application: text(frame.application),
        userToken: text(frame.userToken),
      }).finish()
    case 'UNREGISTER':
      return v1.Unregister.encode(registrationRequest(frame)).finish()
    case 'SUBSCRIBE':
      return v1.Subscribe.encode({ ...registrationRequest(frame), topic: text(frame.topic) }).finish()
    case 'UNSUBSCRIBE':
      return v1.Unsubscribe.encode({ ...registrationRequest(frame), topic: text(frame.topic) }).finish()
    case 'WELCOME':
      return v1.Welcome.encode({
        serverTimeMs: uint64(frame.serverTimeMs, 'server_time_ms'),
        keepaliveSeconds: uint32(frame.keepaliveSeconds, 'keepalive_seconds'),
        limits: {
          frameBytesMax: uint32(frame.limits.frameBytesMax, 'frame_bytes_max'),
          window: uint32(frame.limits.window, 'window'),
          registrationsMax: uint32(frame.limits.registrationsMax, 'registrations_max'),
          topicsMax: uint32(frame.limits.topicsMax, 'topics_max'),
        },
        subscriptions: uint32(frame.subscriptions, 'subscriptions'),
        ticket: frame.ticket,
        ticketSeconds: uint32(frame.ticketSeconds, 'ticket_seconds'),
      }).finish()
    case 'NOTIFY':
      return v1.Notify.encode({
        id: fixed64(frame.id, 'id'),
        registration: uint32(frame.registration, 'registration'),
        ...content(frame),
      }).finish()
    case 'CAUGHT_UP':
      return v1.CaughtUp.encode({ cursor: cursor(frame.cursor) }).finish()
    case 'REGISTERED':
      return v1.Registered.encode({
        request: uint32(frame.request, 'request'),
        registration: uint32(frame.registration, 'registration'),
        registrationId: text(frame.registrationId),
        subscriptions: uint32(frame.subscriptions, 'subscriptions'),
        project: text(frame.project),
      }).finish()
    case 'DONE':
      return v1.Done.encode({
        request: uint32(frame.request, 'request'),
        subscriptions: uint32(frame.subscriptions, 'subscriptions'),
      }).finish()
    case 'GAP':
      return v1.Gap.encode({
        count: uint32(frame.count, 'count'),
        reason: GAP_REASONS.indexOf(frame.reason),
        mark: gapMark(frame.mark),
      }).finish()
    case 'GOAWAY':
      return v1.Goaway.encode({
        reason: GOAWAY_REASONS.indexOf(frame.reason),
        afterMs: uint32(frame.afterMs, 'after_ms'),
        jitterMs: uint32(frame.jitterMs, 'jitter_ms'),
        url: text(frame.url),
      }).finish()
    case 'ERROR':
      return v1.Error.encode({
        code: text(frame.code),
        detail: text(frame.detail),
        request: uint32(frame.request, 'request'),
        retryAfterMs: uint32(frame.retryAfterMs, 'retry_after_ms'),
        connection: uint64(frame.connection, 'connection'),
      }).finish()
  }
}

/** The part of a group message that is the same for all devices: without its sequence and registrations. */
export type GroupBody = Omit<NotifyGroupFrame, 'type' | 'sequence' | 'registrations'>

export function encodeGroupBody(group: GroupBody): Uint8Array {
  const { target } = group
  return v1.NotifyGroup.encode({
    id: fixed64(group.id, 'id'),
    ...(target?.kind === 'app' ? { application: text(target.name) } : {}),
    ...(target?.kind === 'topic' ? { topic: text(target.name) } : {}),
    ...(target?.kind === 'user' ? { user: text(target.name) } : {}),
    project: text(group.project),
    ...content(group),
  }).finish()
}

function hello(frame: HelloFrame): borealis.v1.Hello.$Properties {
  const { credential, client } = frame
  return {
    version: uint32(frame.version, 'version'),
    ...(credential?.kind === 'token' ? { token: text(credential.token) } : {}),
    ...(credential?.kind === 'ticket' ? { ticket: credential.ticket } : {}),
    connection: uint64(frame.connection, 'connection'),
    client: client && { name: text(client.name), version: text(client.version), platform: text(client.platform) },
    cursor: cursor(frame.cursor),
    gap: gapMark(frame.gap),
  }
}

function content(c: NotificationContent) {
  return {
    expiresAtSeconds: uint32(c.expiresAtSeconds, 'expires_at_seconds'),
    priority: PRIORITIES.indexOf(c.priority),
    collapseKey: text(c.collapseKey),
    title: text(c.title),
    message: text(c.message),
    data: c.data,
  }
}

function registrationRequest(frame: { request: number; registration: number }) {
  return { request: uint32(frame.request, 'request'), registration: uint32(frame.registration, 'registration') }
}

function cursor(c: Cursor | null): borealis.v1.Cursor.$Properties | null {
  if (!c) return null
  return {
    incarnation: fixed64(c.incarnation, 'incarnation'),
    sequence: uint64(c.sequence, 'sequence'),
    subscriptions: uint32(c.subscriptions, 'subscriptions'),
  }
}

function gapMark(mark: GapMark | null): borealis.v1.GapMark.$Properties | null {
  return mark && { queue: fixed64(mark.queue, 'queue'), count: uint32(mark.count, 'count') }
}

function uint32(value: number, field: string): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
    throw new EncodeError('out_of_range', `${field} ${value} is outside 0..2^32-1`)
  }
  return value
}

function uint64(value: number, field: string): GeneratedLong {
  return checked(() => fromSafeNumber(value, field))
}

function fixed64(value: bigint, field: string): GeneratedLong {
  return checked(() => fromBigint(value, field))
}

function checked(convert: () => Wire64): GeneratedLong {
  try {
    return convert() as GeneratedLong
  } catch (error) {
    throw new EncodeError('out_of_range', error instanceof Error ? error.message : 'not a 64-bit integer')
  }
}

/**
 * Replaces halves of surrogate pairs by U+FFFD, as browsers do. JSON can contain such a half, but UTF-8 cannot: every
 * decoder would refuse the frame, and the device would get it again for ever.
 */
function text(value: string): string {
  return value.replace(/\p{Surrogate}/gu, '\ufffd')
}
