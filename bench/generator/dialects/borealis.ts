/** Our protocol. It reads the frequent frames (NOTIFY, NOTIFY_GROUP) in place, and all others with the real decoder. */

import { decodeFrames } from '../../../protocol/decode.js'
import { encodeFrame } from '../../../protocol/encode.js'
import {
  DEVICE_FRAME_BYTES_MAX,
  EMPTY_MESSAGE,
  FrameType,
  PROTOCOL_VERSION,
  SERVER_FRAME_BYTES_MAX,
} from '../../../protocol/frame.js'
import type { Credential, GapMark, ServerFrame, UnknownFrame } from '../../../protocol/frame-types.js'
import { mintDeviceToken } from '../../../src/device-token.js'
import { nowMicros } from '../../micros.js'
import { microsAt, STAMP_BYTES, sequenceAt } from '../../stamp.js'
import type { Dialect, DialectConfig, DialectHost } from '../dialect.js'
import { deviceOf } from '../identity.js'
import { type Peer, State } from '../peer.js'
import { Tickets } from '../tickets.js'
import { clientFrame } from '../websocket.js'
import { ACK_IDS_MAX, ackMessage } from './acks.js'
import { groupStamp } from './frame-stamp.js'

const PING = clientFrame(EMPTY_MESSAGE)
const BYE = clientFrame(encodeFrame({ type: 'BYE' }))
const TAG_ID = 0x09
const TOKEN_LIFETIME_MS = 86_400_000

export class BorealisDialect implements Dialect {
  readonly subprotocol = ''
  /** Device tokens by slot. A token is dropped after the first WELCOME with a ticket. */
  readonly #tokens: (string | null)[] = []
  readonly #tickets = new Tickets()
  /** Marks of GAP frames by slot, of the few devices whose queue overflowed. */
  readonly #gaps = new Map<number, GapMark>()
  #incarnation = 0n
  /** Low and high halves of the ids that are to be acknowledged after the current WebSocket message. */
  readonly #unacknowledged: number[] = []
  #unacknowledgedCount = 0

  constructor(
    private readonly host: DialectHost,
    private readonly config: DialectConfig,
  ) {}

  /** Signs the tokens in advance, so that this is not measured. */
  prepare(peers: readonly Peer[]): void {
    for (const peer of peers) this.#tokens[peer.slot] = this.#mint(peer.index)
  }

  opened(peer: Peer): void {
    peer.connection = this.host.reconnects.nextNumber(peer)
    peer.send(clientFrame(this.#hello(peer)))
  }

  message(peer: Peer, bytes: Buffer, start: number, end: number): void {
    if (start === end) this.host.tally.pongs++
    let at = start
    while (at < end) {
      const first = bytes[at] as number
      const second = bytes[at + 1] as number
      const prefix = first < 128 ? 1 : second < 128 ? 2 : 3
      const length =
        (first & 127) | (prefix > 1 ? (second & 127) << 7 : 0) | (prefix > 2 ? (bytes[at + 2] ?? 0) << 14 : 0)
      const typeAt = at + prefix
      at = typeAt + length
      if (length === 0 || at > end) {
        this.host.tally.faults++
        return
      }
      const type = bytes[typeAt]
      if (type === FrameType.NOTIFY) this.#notify(peer, bytes, typeAt + 1, at)
      else if (type === FrameType.NOTIFY_GROUP) this.#group(peer, bytes, at)
      else this.#decode(peer, bytes.subarray(typeAt - prefix, at))
    }
    if (this.#unacknowledgedCount > 0) this.#acknowledge(peer)
  }

  keepalive(peer: Peer): void {
    peer.send(PING)
  }

  leave(peer: Peer): void {
    peer.send(BYE)
  }

  #notify(peer: Peer, bytes: Buffer, bodyAt: number, end: number): void {
    const { tally, behaviour } = this.host
    if (bytes[bodyAt] !== TAG_ID) {
      tally.faults++
      return
    }
    const low = bytes.readUInt32LE(bodyAt + 1)
    const high = bytes.readUInt32LE(bodyAt + 5)
    const stampAt = end - STAMP_BYTES
    const nowAt = nowMicros()
    const stamped = sequenceAt(bytes, stampAt)
    const sequence = behaviour.spread > 0 ? stamped + placeIn(behaviour.spread, stamped, peer.index) : stamped
    tally.message(sequence, low, high, nowAt - microsAt(bytes, stampAt), nowAt)
    this.#unacknowledged[2 * this.#unacknowledgedCount] = low
    this.#unacknowledged[2 * this.#unacknowledgedCount + 1] = high
    this.#unacknowledgedCount++
  }

  #acknowledge(peer: Peer): void {
    const count = this.#unacknowledgedCount
    this.#unacknowledgedCount = 0
    if (!this.host.behaviour.acknowledge) return
    for (let done = 0; done < count; done += ACK_IDS_MAX) {
      const part = done === 0 ? this.#unacknowledged : this.#unacknowledged.slice(2 * done)
      peer.send(ackMessage(part, Math.min(ACK_IDS_MAX, count - done)))
    }
  }

  /** The worker appends the position in the log, so it is the last field of the frame, behind the stamp. */
  #group(peer: Peer, bytes: Buffer, end: number): void {
    const { tally } = this.host
    const group = groupStamp(bytes, end)
    if (!group) {
      tally.faults++
      return
    }
    const { sequence, stampAt } = group
    if (sequence <= peer.groupSequence) {
      tally.groupDuplicates++
      return
    }
    peer.groupSequence = sequence
    const nowAt = nowMicros()
    tally.groupMessage(nowAt - microsAt(bytes, stampAt), nowAt)
  }

  #decode(peer: Peer, bytes: Buffer): void {
    const { frames, fault } = decodeFrames(bytes, { from: 'server', frameBytesMax: SERVER_FRAME_BYTES_MAX })
    if (fault) this.host.tally.faults++
    for (const frame of frames) this.#handle(peer, frame)
  }

  #handle(peer: Peer, frame: ServerFrame | UnknownFrame): void {
    switch (frame.type) {
      case 'WELCOME':
        peer.state = State.GREETED
        peer.subscriptions = frame.subscriptions
        this.#tickets.set(peer.slot, frame.ticket)
        if (frame.ticket.length > 0) this.#tokens[peer.slot] = null
        return
      case 'CAUGHT_UP':
        if (frame.cursor) {
          this.#incarnation = frame.cursor.incarnation
          peer.groupSequence = Math.max(peer.groupSequence, frame.cursor.sequence)
          peer.subscriptions = frame.cursor.subscriptions
        }
        this.host.ready(peer)
        return
      case 'GAP':
        this.host.tally.gaps++
        this.host.tally.gapMessages += frame.count
        if (frame.mark) this.#gaps.set(peer.slot, frame.mark)
        return
      case 'GOAWAY':
        this.host.goAway(peer, frame)
        return
      case 'ERROR':
        this.host.reconnects.serverError(peer, performance.now(), frame)
        if (frame.code === 'bad_ticket') this.#tickets.forget(peer.slot)
        return
      default:
        this.host.tally.faults++
    }
  }

  #hello(peer: Peer): Uint8Array {
    const hello = encodeFrame({
      type: 'HELLO',
      version: PROTOCOL_VERSION,
      credential: this.#credential(peer),
      connection: peer.connection,
      client: null,
      cursor:
        this.#incarnation === 0n
          ? null
          : { incarnation: this.#incarnation, sequence: peer.groupSequence, subscriptions: peer.subscriptions },
      gap: this.#gaps.get(peer.slot) ?? null,
    })
    if (hello.length > DEVICE_FRAME_BYTES_MAX) throw new Error('the HELLO exceeds the limit of a frame')
    return hello
  }

  #credential(peer: Peer): Credential {
    const ticket = this.host.behaviour.resume ? this.#tickets.get(peer.slot) : null
    if (ticket) return { kind: 'ticket', ticket }
    const token = this.#tokens[peer.slot] ?? this.#mint(peer.index)
    this.#tokens[peer.slot] = token
    return { kind: 'token', token }
  }

  #mint(index: number): string {
    const { signing, run } = this.config
    if (!signing) throw new Error('this dialect needs a key that signs device tokens')
    const request = { issuer: signing.issuer, device: deviceOf(run, index), fleet: 'fleet_bench', nowMs: Date.now() }
    return mintDeviceToken(signing, { ...request, lifetimeMs: TOKEN_LIFETIME_MS }).token
  }
}

/** The distance of device `index` from the target of `sequence`, if the targets go round `spread` devices. */
function placeIn(spread: number, sequence: number, index: number): number {
  const place = (index - sequence) % spread
  return place < 0 ? place + spread : place
}
