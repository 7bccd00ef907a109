/**
 * What one hostile connection does, from the connect to its end. Each plan knows what the protocol says must follow, and
 * tells the ledger of everything else.
 */
import { Close } from '../../protocol/close-codes.js'
import type { DeviceFrame } from '../../protocol/frame-types.js'
import { ServerFloors } from '../../protocol/limits.js'
import { extremeHello, hostileMessage, NOTHING_KNOWN } from './bytes.js'
import { DUE_MS, expectAnything, expectEnd, LOOK_MS, open, type Plan, REFUSED, upgraded } from './call.js'
import { below, pick, type Weighted } from './chance.js'
import { enter, helloFrame, say } from './enter.js'
import { endOfGreeting, framesIn } from './expected.js'
import { devicePortShot, proxyShot } from './http.js'
import { session } from './session.js'
import { broken, fragmented, frame, Opcode } from './websocket.js'
import { Wire } from './wire.js'

const MESSAGES_MAX = 12
/** The gateway asks the store before some of its answers. */
const ANSWER_MS = 500
/** Kinds of broken WebSocket in which a close frame of ours may be read, noise among them. */
const MAY_HOLD_A_CLOSE = /close|noise|unmasked|half/
const CHATTER_BYTES = 4_000
const { FRAMES_PER_SECOND } = ServerFloors

/** Bytes instead of a HELLO. Ends with the first message that has to be refused. */
const greeting: Plan = async (call) => {
  const { random, ledger } = call
  const wire = open(call)
  if (!(await upgraded(call, wire))) return
  let frames = 0
  for (let sent = 0; ; sent++) {
    // PING is not allowed here: so that every plan has its end.
    const message = sent < MESSAGES_MAX ? hostileMessage(random, NOTHING_KNOWN) : Uint8Array.of(1, 7)
    const code = endOfGreeting(message)
    frames += framesIn(message)
    ledger.frames += framesIn(message)
    wire.write(below(random, 8) === 0 ? fragmented(random, message) : frame(random, message))
    if (code === null) continue
    const isMuch = frames > FRAMES_PER_SECOND.value
    await expectEnd(call, wire, isMuch ? [code, Close.rate_limited.code] : [code], () =>
      Buffer.from(message).toString('hex'),
    )
    return
  }
}

/** Frames of a later version, and never a HELLO. */
const chatter: Plan = async (call) => {
  const { random, ledger } = call
  const wire = open(call)
  if (!(await upgraded(call, wire))) return
  ledger.frames += FRAMES_PER_SECOND.value
  wire.write(frame(random, Buffer.alloc(CHATTER_BYTES, Uint8Array.of(1, pick(random, [0x09, 0x7f, 0x8b, 0xff])))))
  await expectEnd(call, wire, [Close.rate_limited.code], () => 'chatter before HELLO')
}

const websocket: Plan = async (call) => {
  const { random, ledger } = call
  const wire = open(call)
  if (!(await upgraded(call, wire))) return
  const [name, make] = pick(random, Object.entries(broken))
  ledger.frames++
  wire.write(make(random))
  if (below(random, 2) === 0) wire.write(frame(random, Uint8Array.of(1, 7)))
  const isEcho = MAY_HOLD_A_CLOSE.test(name)
  if (!isEcho) {
    await expectAnything(call, wire, () => `a broken WebSocket: ${name}`)
    return
  }
  // The WebSocket layer repeats the code that it was closed with: that one is ours, and says nothing.
  await wire.until(() => wire.end !== null, LOOK_MS)
  ledger.left++
  wire.leave()
}

const text: Plan = async (call) => {
  const wire = open(call)
  if (!(await upgraded(call, wire))) return
  call.ledger.frames++
  wire.write(frame(call.random, Buffer.from('{"type":"HELLO"}'), { opcode: Opcode.TEXT }))
  await expectEnd(call, wire, [Close.protocol_error.code], () => 'text')
}

const forged: Plan = async (call) => {
  const { random, ledger, forger } = call
  const { name, credential, code } = forger.make(random)
  const wire = open(call)
  ledger.frames++
  const hello = { credential, connection: 1 + below(random, 100), ...extremeHello(random) }
  if (await enter(random, wire, hello, DUE_MS)) await expectEnd(call, wire, [code], () => name)
  else {
    ledger.answered(wire.status)
    wire.leave()
  }
}

/** A good HELLO with something behind it that did not wait for WELCOME. */
const impatient: Plan = async (call) => {
  const { random, ledger, suspects } = call
  const own = suspects.stranger(random)
  const wire = open(call, () => undefined)
  if (!(await upgraded(call, wire))) return
  ledger.frames += 2
  const second = pick<DeviceFrame>(random, [
    { type: 'PING' },
    { type: 'ACK', ids: [1n] },
    { type: 'BYE' },
    helloFrame({ credential: own.credential, connection: 2 }),
  ])
  say(random, wire, helloFrame({ credential: own.credential, connection: 1, ...extremeHello(random) }), second)
  await expectEnd(call, wire, [Close.unexpected_frame.code], () => `${second.type} behind HELLO`)
}

const http: Plan = async (call) => {
  const { ledger, random } = call
  const { name, bytes } = devicePortShot(random)
  const wire = open(call)
  wire.write(bytes)
  if (below(random, 3) === 0) wire.shut()
  await wire.until(() => wire.end !== null || wire.status > 0, LOOK_MS)
  if (wire.status >= 100 && wire.status < 300) ledger.surprise(call.name, `${name} was answered ${wire.status}`)
  if (wire.status > 0) ledger.answered(wire.status)
  else ledger.left++
  wire.leave()
}

const proxy: Plan = async (call) => {
  const { name, bytes } = proxyShot(call.random)
  const wire = open(call)
  wire.write(bytes)
  if (await wire.upgraded(LOOK_MS)) {
    call.ledger.frames++
    wire.write(frame(call.random, Uint8Array.of(1, 7)))
  }
  await expectAnything(call, wire, () => `PROXY ${name}`)
}

const gateway: Plan = async (call) => {
  const { ledger, random } = call
  const { name, bytes } = call.gatewayShot(random)
  ledger.connections++
  const wire = new Wire(call.gateway, call.address)
  wire.write(bytes)
  await wire.until(() => wire.end !== null || wire.status > 0, ANSWER_MS)
  const { status } = wire
  const isAllowed = status === 0 || (status >= 400 && status < 500) || status === REFUSED || status === 505
  if (!isAllowed) ledger.surprise(call.name, `the gateway answered ${status} to ${name}`)
  if (status > 0) ledger.answered(status)
  else ledger.left++
  wire.leave()
}

/** Shares of connections; most frames are those of sessions, which live longer. */
export const plans: readonly Weighted<{ name: string; plan: Plan }>[] = [
  { weight: 40, item: { name: 'greeting', plan: greeting } },
  { weight: 8, item: { name: 'websocket', plan: websocket } },
  { weight: 1, item: { name: 'text', plan: text } },
  { weight: 0.5, item: { name: 'chatter', plan: chatter } },
  { weight: 8, item: { name: 'forged', plan: forged } },
  { weight: 3, item: { name: 'impatient', plan: impatient } },
  { weight: 3, item: { name: 'http', plan: http } },
  { weight: 2, item: { name: 'proxy', plan: proxy } },
  { weight: 5, item: { name: 'gateway', plan: gateway } },
  { weight: 30, item: { name: 'session', plan: session } },
]
