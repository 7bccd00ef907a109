/** Devices that were let in, and then mean ill: everything that a token gives a right to, and more. */
import { Close } from '../../protocol/close-codes.js'
import { encodeFrame } from '../../protocol/encode.js'
import type { ServerFrame } from '../../protocol/frame-types.js'
import { WireLimits } from '../../protocol/limits.js'
import { awareFrame, extremeHello, mutated } from './bytes.js'
import { DUE_MS, expectEnd, open, type PlanCall, upgraded } from './call.js'
import { below, pick } from './chance.js'
import { helloFrame, say } from './enter.js'
import { CUT, endOfSession, framesIn } from './expected.js'
import type { Suspect } from './suspects.js'
import { fragmented, frame } from './websocket.js'
import type { Wire } from './wire.js'

const FRAMES_MAX = 90
/** Far more than a worker takes in the two ticks that this may fall into; what comes behind the close is not counted. */
const FLOOD = 600
const FLOOD_COUNTED = 100
const { INTEGER_MAX } = WireLimits

export async function session(call: PlanCall): Promise<void> {
  const { random, suspects } = call
  const isExtreme = below(random, 50) === 0
  const suspect = isExtreme ? suspects.stranger(random) : suspects.take()
  if (!suspect) return
  try {
    if (isExtreme) await tooFarAhead(call, suspect)
    else await asDevice(call, suspect)
  } finally {
    if (!isExtreme) suspects.release(suspect)
  }
}

/** A connection number that would use up all numbers of the device is refused: the device itself stays able to connect. */
async function tooFarAhead(call: PlanCall, suspect: Suspect): Promise<void> {
  const { random, ledger } = call
  const wire = open(call, (received) => judge(call, suspect, received))
  if (!(await upgraded(call, wire))) return
  ledger.frames++
  const { credential } = suspect
  say(random, wire, helloFrame({ credential, connection: INTEGER_MAX.value, ...extremeHello(random) }))
  await wire.until(() => wire.end !== null, DUE_MS)
  if (wire.end) ledger.closed(wire.end.code)
  const expected: (number | undefined)[] = [Close.connection_ahead.code, Close.unavailable.code]
  if (!expected.includes(wire.end?.code)) {
    ledger.surprise(call.name, `a connection number too far ahead: ${JSON.stringify(wire.end)}`)
  }
  wire.leave()
}

async function asDevice(call: PlanCall, suspect: Suspect): Promise<void> {
  const { random, ledger } = call
  let isWelcome = false
  const wire = open(call, (received) => {
    if (received.type === 'WELCOME') {
      isWelcome = true
      if (received.ticket.length > 0) suspect.credential = { kind: 'ticket', ticket: received.ticket }
    }
    judge(call, suspect, received)
  })
  if (!(await upgraded(call, wire))) return
  suspect.connection++
  ledger.frames++
  const { credential, connection } = suspect
  say(random, wire, helloFrame({ credential, connection, ...extremeHello(random) }))
  if (!(await wire.until(() => isWelcome || wire.end !== null, DUE_MS)) || !isWelcome) {
    if (wire.end) ledger.closed(wire.end.code)
    // Where the rest of the installation is slow, a worker says so.
    if (wire.end?.code !== Close.unavailable.code) ledger.surprise(call.name, `no WELCOME: ${JSON.stringify(wire.end)}`)
    wire.leave()
    return
  }
  await misbehave(call, wire)
}

/** Its own messages it may have. */
function judge({ ledger, name }: PlanCall, suspect: Suspect, received: ServerFrame): void {
  if (received.type !== 'NOTIFY' && received.type !== 'NOTIFY_GROUP') return
  if (received.type === 'NOTIFY' && received.title.startsWith(suspect.device)) return
  ledger.wrongDevice++
  ledger.surprise(name, `${suspect.device} got ${received.title}`)
}

const misdeeds = [many, many, many, many, many, many, many, flood, vanish, bye, hoard]

const misbehave = (call: PlanCall, wire: Wire): Promise<void> => pick(call.random, misdeeds)(call, wire)

/** As many odd frames as the rate limit lets pass, then one that must not pass. */
async function many(call: PlanCall, wire: Wire): Promise<void> {
  const { random, ledger, knowledge } = call
  const count = 1 + below(random, FRAMES_MAX)
  let batch: Buffer[] = []
  let writes = 0
  for (let sent = 0; sent < count; sent++) {
    const isLast = sent === count - 1
    const message = isLast ? mutated(random) : encodeFrame(awareFrame(random, knowledge))
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
      // Who goes on writing after rate_limited is reset by the server's kernel, and may lose the close frame by that.
      if (writes > 1) codes.push(CUT)
      await expectEnd(call, wire, codes, () => Buffer.from(message).toString('hex'))
      return
    }
  }
  await vanish(call, wire)
}

async function flood(call: PlanCall, wire: Wire): Promise<void> {
  const { random, ledger } = call
  ledger.frames += FLOOD_COUNTED
  const type = pick(random, [7, 0x7f, 0x40])
  wire.write(Buffer.concat(Array.from({ length: FLOOD }, () => frame(random, Uint8Array.of(1, type)))))
  await expectEnd(call, wire, [Close.rate_limited.code], () => `${FLOOD} frames of type ${type} at once`)
}

/** Asks much, reads nothing. */
async function hoard(call: PlanCall, wire: Wire): Promise<void> {
  const { random, ledger, knowledge } = call
  wire.pause()
  const frames = Array.from({ length: 40 }, () => awareFrame(random, knowledge))
  ledger.frames += frames.length
  for (const one of frames) say(random, wire, one)
  await new Promise((resolve) => setTimeout(resolve, below(random, 500)))
  await vanish(call, wire)
}

async function vanish({ ledger }: PlanCall, wire: Wire): Promise<void> {
  ledger.left++
  wire.leave()
}

async function bye(call: PlanCall, wire: Wire): Promise<void> {
  const { random, ledger } = call
  ledger.frames += 3
  say(random, wire, { type: 'BYE' }, { type: 'PING' }, { type: 'BYE' })
  await expectEnd(call, wire, [Close.bye.code], () => 'BYE')
}
