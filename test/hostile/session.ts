/** The plan of a hostile device with a valid credential, which attacks after WELCOME. */
import { Close } from '../../protocol/close-codes.js'
import { encodeFrame } from '../../protocol/encode.js'
import type { ServerFrame } from '../../protocol/frame-types.js'
import { WireLimits } from '../../protocol/limits.js'
import { extremeHello, mutated, wellFormedFrame } from './bytes.js'
import { DUE_MS, expectEnd, open, type PlanCall, upgrade } from './call.js'
import { below, pick } from './chance.js'
import { helloFrame, sendFrames } from './enter.js'
import { CUT, endOfSession, framesIn } from './expected.js'
import type { Suspect } from './suspects.js'
import { fragmented, frame } from './websocket.js'
import type { Wire } from './wire.js'

const FRAMES_MAX = 90
/** Far more frames than the rate limit allows in the two seconds that a burst may touch. Frames after the close do not count. */
const FLOOD = 600
const FLOOD_COUNTED = 100
const { INTEGER_MAX } = WireLimits

export async function session(call: PlanCall): Promise<void> {
  const { random, suspects } = call
  const isExtreme = below(random, 50) === 0
  const suspect = isExtreme ? suspects.newDevice(random) : suspects.take()
  if (!suspect) return
  try {
    if (isExtreme) await connectTooFarAhead(call, suspect)
    else await attackSession(call, suspect)
  } finally {
    if (!isExtreme) suspects.release(suspect)
  }
}

/** Sends the highest connection number. It must be refused, because the device could never connect again. */
async function connectTooFarAhead(call: PlanCall, suspect: Suspect): Promise<void> {
  const { random, ledger } = call
  const wire = open(call, (received) => checkReceived(call, suspect, received))
  if (!(await upgrade(call, wire))) return
  ledger.frames++
  const { credential } = suspect
  sendFrames(random, wire, helloFrame({ credential, connection: INTEGER_MAX.value, ...extremeHello(random) }))
  await wire.until(() => wire.end !== null, DUE_MS)
  if (wire.end) ledger.closed(wire.end.code)
  const expected: (number | undefined)[] = [Close.connection_ahead.code, Close.unavailable.code]
  if (!expected.includes(wire.end?.code)) {
    ledger.surprise(call.name, `a connection number too far ahead: ${JSON.stringify(wire.end)}`)
  }
  wire.leave()
}

async function attackSession(call: PlanCall, suspect: Suspect): Promise<void> {
  const { random, ledger } = call
  let isWelcome = false
  const wire = open(call, (received) => {
    if (received.type === 'WELCOME') {
      isWelcome = true
      if (received.ticket.length > 0) suspect.credential = { kind: 'ticket', ticket: received.ticket }
    }
    checkReceived(call, suspect, received)
  })
  if (!(await upgrade(call, wire))) return
  suspect.connection++
  ledger.frames++
  const { credential, connection } = suspect
  sendFrames(random, wire, helloFrame({ credential, connection, ...extremeHello(random) }))
  if (!(await wire.until(() => isWelcome || wire.end !== null, DUE_MS)) || !isWelcome) {
    if (wire.end) ledger.closed(wire.end.code)
    // A worker closes with `unavailable` if the core or the store is too slow.
    if (wire.end?.code !== Close.unavailable.code) ledger.surprise(call.name, `no WELCOME: ${JSON.stringify(wire.end)}`)
    wire.leave()
    return
  }
  await misbehave(call, wire)
}

/** Records a message that was sent to another device. */
function checkReceived({ ledger, name }: PlanCall, suspect: Suspect, received: ServerFrame): void {
  if (received.type !== 'NOTIFY' && received.type !== 'NOTIFY_GROUP') return
  if (received.type === 'NOTIFY' && received.title.startsWith(suspect.device)) return
  ledger.wrongDevice++
  ledger.surprise(name, `${suspect.device} got ${received.title}`)
}

/** A repeated entry is a higher weight. */
const attacks = [
  ...Array.from({ length: 7 }, () => sendHostileFrames),
  sendAboveRateLimit,
  resetConnection,
  sendAfterBye,
  requestWithoutReading,
]

const misbehave = (call: PlanCall, wire: Wire): Promise<void> => pick(call.random, attacks)(call, wire)

/** Sends well-formed hostile frames within the rate limit, then a mutated message. */
async function sendHostileFrames(call: PlanCall, wire: Wire): Promise<void> {
  const { random, ledger, knowledge } = call
  const count = 1 + below(random, FRAMES_MAX)
  let batch: Buffer[] = []
  let writes = 0
  for (let sent = 0; sent < count; sent++) {
    const isLast = sent === count - 1
    const message = isLast ? mutated(random) : encodeFrame(wellFormedFrame(random, knowledge))
    ledger.frames += framesIn(message)
    batch.push(below(random, 10) === 0 ? fragmented(random, message) : frame(random, message))
    const code = endOfSession(message)
    if (isLast || code !== null || below(random, 30) === 0) {
      wire.write(Buffer.concat(batch))
      writes++
      batch = []
    }
    if (code !== null) {
      const codes: number[] = [code, Close.rate_limited.code]
      // A write after the close makes the server's kernel reset the connection, which may discard the close frame.
      if (writes > 1) codes.push(CUT)
      await expectEnd(call, wire, codes, () => Buffer.from(message).toString('hex'))
      return
    }
  }
  await resetConnection(call, wire)
}

async function sendAboveRateLimit(call: PlanCall, wire: Wire): Promise<void> {
  const { random, ledger } = call
  ledger.frames += FLOOD_COUNTED
  const type = pick(random, [7, 0x7f, 0x40])
  wire.write(Buffer.concat(Array.from({ length: FLOOD }, () => frame(random, Uint8Array.of(1, type)))))
  await expectEnd(call, wire, [Close.rate_limited.code], () => `${FLOOD} frames of type ${type} at once`)
}

/** Sends many requests and reads none of the answers. */
async function requestWithoutReading(call: PlanCall, wire: Wire): Promise<void> {
  const { random, ledger, knowledge } = call
  wire.pause()
  const frames = Array.from({ length: 40 }, () => wellFormedFrame(random, knowledge))
  ledger.frames += frames.length
  for (const one of frames) sendFrames(random, wire, one)
  await new Promise((resolve) => setTimeout(resolve, below(random, 500)))
  await resetConnection(call, wire)
}

async function resetConnection({ ledger }: PlanCall, wire: Wire): Promise<void> {
  ledger.left++
  wire.leave()
}

async function sendAfterBye(call: PlanCall, wire: Wire): Promise<void> {
  const { random, ledger } = call
  ledger.frames += 3
  sendFrames(random, wire, { type: 'BYE' }, { type: 'PING' }, { type: 'BYE' })
  await expectEnd(call, wire, [Close.bye.code], () => 'BYE')
}
