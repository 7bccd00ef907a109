/** Generates hostile WebSocket messages: random bytes, mutated golden vectors, and valid frames at the wrong time. */
import { encodeFrame } from '../../protocol/encode.js'
import type { DeviceFrame } from '../../protocol/frame-types.js'
import { WireLimits } from '../../protocol/limits.js'
import { allVectors, bytesOf } from '../protocol/support.js'
import { below, noise, pick, type Random, weighted } from './chance.js'

const corpus = allVectors.map(({ hex }) => bytesOf(hex)).filter(({ length }) => length < 1_200)
/** Bytes with a meaning in the protocol or in varints. */
const interestingBytes = [0x00, 0x01, 0x02, 0x07, 0x08, 0x0a, 0x0b, 0x0c, 0x7f, 0x80, 0x81, 0xff]
const SCRATCH_BYTES = 8_192
const scratch = new Uint8Array(SCRATCH_BYTES)

const { DEVICE_MESSAGE_BYTES_MAX, INTEGER_MAX } = WireLimits

/** The knowledge of a hostile device about others. */
export interface Knowledge {
  /** Ids of messages to other devices. */
  foreignIds: readonly bigint[]
  applications: readonly string[]
}

export const NOTHING_KNOWN: Knowledge = { foreignIds: [], applications: [] }

export function hostileMessage(random: Random, knowledge: Knowledge): Uint8Array {
  return weighted(random, [
    { weight: 2, item: () => noise(random, below(random, 64)) },
    { weight: 6, item: () => mutated(random) },
    { weight: 3, item: () => encodeFrame(wellFormedFrame(random, knowledge)) },
    { weight: 0.02, item: () => noise(random, DEVICE_MESSAGE_BYTES_MAX.value - 8 + below(random, 16)) },
  ])()
}

/** A golden vector that is changed, cut, doubled or spliced with another one. */
export function mutated(random: Random): Uint8Array {
  const first = pick(random, corpus)
  scratch.set(first)
  let length = first.length
  for (let changes = below(random, 4); changes >= 0; changes--) length = change(random, length)
  if (below(random, 3) === 0) length = repairLength(length)
  return scratch.slice(0, length)
}

function change(random: Random, length: number): number {
  const at = below(random, length + 1)
  const byte = below(random, 2) === 0 ? below(random, 256) : pick(random, interestingBytes)
  switch (below(random, 6)) {
    case 0:
      scratch[at] = byte
      return Math.max(length, at + 1)
    case 1:
      return spliced(at, 0, Uint8Array.of(byte), length)
    case 2:
      return spliced(at, 1 + below(random, 3), new Uint8Array(), length)
    case 3:
      if (at < length) scratch[at] = (scratch[at] ?? 0) ^ (1 << below(random, 8))
      return length
    case 4:
      return spliced(length, 0, pick(random, corpus), length)
    default:
      return spliced(at, below(random, 4), pick(random, corpus).subarray(0, below(random, 24)), length)
  }
}

function spliced(at: number, removed: number, added: Uint8Array, length: number): number {
  const tail = Math.min(at + removed, length)
  const end = at + added.length + length - tail
  if (end > SCRATCH_BYTES) return length
  scratch.copyWithin(at + added.length, tail, length)
  scratch.set(added, at)
  return end
}

/** Corrects the length of the first frame, so that the mutation reaches the decoder of bodies. */
function repairLength(length: number): number {
  let prefix = 0
  while (prefix < length && (scratch[prefix] ?? 0) >= 128) prefix++
  const body = length - prefix - 1
  if (prefix >= length || body < 1) return length
  const right = body < 128 ? Uint8Array.of(body) : Uint8Array.of((body & 127) | 128, body >> 7)
  return spliced(0, prefix + 1, right, length)
}

const topics = ['', '*', '>', 'a.b', 'news', '..', 'a b', '\u0000', 'ü', '$JS.API.>', 'x'.repeat(64), 'x'.repeat(300)]
const numbers = [0, 1, 2, 64, 2 ** 31, 2 ** 32 - 1]
/** The largest number of ids in one frame: type, tag and a length of three bytes, then 8 bytes for each id. */
const IDS_MAX = Math.floor((DEVICE_MESSAGE_BYTES_MAX.value - 8) / 8)

/** A well-formed frame with hostile contents. It is never HELLO or BYE, because these end the session. */
export function wellFormedFrame(random: Random, knowledge: Knowledge): DeviceFrame {
  const request = below(random, 8) === 0 ? pick(random, numbers) : below(random, 1_000)
  const registration = pick(random, numbers)
  const anyId = () => (BigInt(below(random, 2 ** 32)) << 32n) | BigInt(below(random, 2 ** 32))
  const foreign = () => (knowledge.foreignIds.length > 0 ? pick(random, knowledge.foreignIds) : anyId())
  return weighted<() => DeviceFrame>(random, [
    { weight: 30, item: () => ({ type: 'ACK', ids: Array.from({ length: 1 + below(random, 8) }, foreign) }) },
    { weight: 15, item: () => ({ type: 'ACK', ids: Array.from({ length: below(random, 40) }, anyId) }) },
    { weight: 0.3, item: () => ({ type: 'ACK', ids: new Array(IDS_MAX).fill(foreign()) }) },
    { weight: 20, item: () => ({ type: 'PING' }) },
    {
      weight: 3,
      item: () => ({
        type: 'REGISTER',
        request,
        application: applicationOf(random, knowledge),
        userToken: jwtLike(random),
      }),
    },
    { weight: 1, item: () => ({ type: 'UNREGISTER', request, registration }) },
    { weight: 3, item: () => ({ type: 'SUBSCRIBE', request, registration, topic: pick(random, topics) }) },
    { weight: 2, item: () => ({ type: 'UNSUBSCRIBE', request, registration, topic: pick(random, topics) }) },
  ])()
}

function applicationOf(random: Random, { applications }: Knowledge): string {
  const invented = () => pick(random, ['', 'app_x', '*', `app_${'z'.repeat(20)}`, 'x'.repeat(2_000), 'app_\u0000'])
  return applications.length > 0 && below(random, 2) === 0 ? pick(random, applications) : invented()
}

function jwtLike(random: Random): string {
  const part = () => Buffer.from(noise(random, below(random, 60))).toString('base64url')
  return pick(random, ['', 'x', '..', `${part()}.${part()}.${part()}`, 'eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.'])
}

/** The optional fields of a well-formed HELLO, with extreme values. */
export function extremeHello(random: Random): Pick<DeviceFrame & { type: 'HELLO' }, 'cursor' | 'gap' | 'client'> {
  const sequence = pick(random, [0, 1, 1_000, 2 ** 32, INTEGER_MAX.value])
  const text = pick(random, ['', 'x', '\u0000', '💥'.repeat(500)])
  return {
    cursor:
      below(random, 2) === 0
        ? null
        : { incarnation: BigInt(below(random, 2 ** 32)), sequence, subscriptions: pick(random, numbers) },
    gap: below(random, 2) === 0 ? null : { queue: BigInt(below(random, 2 ** 32)), count: pick(random, numbers) },
    client: below(random, 2) === 0 ? null : { name: text, version: text, platform: text },
  }
}
