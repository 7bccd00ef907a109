/**
 * The plans: each one is the behaviour of one hostile connection from its start to its end. A plan knows the close that
 * PROTOCOL.md requires, and records any other behaviour of the server as a surprise.
 */
import { Close } from '../../protocol/close-codes.js'
import type { DeviceFrame } from '../../protocol/frame-types.js'
import { ServerFloors } from '../../protocol/limits.js'
import { extremeHello, hostileMessage, NOTHING_KNOWN } from './bytes.js'
import { DUE_MS, expectAnything, expectEnd, OPTIONAL_ANSWER_MS, open, type Plan, REFUSED, upgrade } from './call.js'
import { below, pick, type Weighted } from './chance.js'
import { enter, helloFrame, sendFrames } from './enter.js'
import { endOfGreeting, framesIn } from './expected.js'
import { devicePortShot, proxyShot } from './http.js'
import { session } from './session.js'
import { broken, fragmented, frame, Opcode } from './websocket.js'
import { Wire } from './wire.js'

const MESSAGES_MAX = 12
/** The API reads the store before some answers. */
const ANSWER_MS = 500
/** The kinds of broken WebSocket frames that a server may read as a close frame. */
const MAY_BE_A_CLOSE = /close|noise|unmasked|half/
const CHATTER_BYTES = 4_000
const { FRAMES_PER_SECOND } = ServerFloors

/** Sends hostile messages instead of HELLO. The first one that must be refused ends the plan. */
const greeting: Plan = async (call) => {
  const { random, ledger } = call
  const wire = open(call)
  if (!(await upgrade(call, wire))) return
  let frames = 0
  for (let sent = 0; ; sent++) {
    // The last message is a PING, which is not allowed before HELLO, so that the plan ends.
    const message = sent < MESSAGES_MAX ? hostileMessage(random, NOTHING_KNOWN) : Uint8Array.of(1, 7)
    const code = endOfGreeting(message)
    frames += framesIn(message)
    ledger.frames += framesIn(message)
    wire.write(below(random, 8) === 0 ? fragmented(random, message) : frame(random, message))
    if (code === null) continue
    const isAboveRate = frames > FRAMES_PER_SECOND.value
    await expectEnd(call, wire, isAboveRate ? [code, Close.rate_limited.code] : [code], () =>
      Buffer.from(message).toString('hex'),
    )
    return
  }
}

/** Sends frames of unknown types above the rate limit, and no HELLO. */
const chatter: Plan = async (call) => {
  const { random, ledger } = call
  const wire = open(call)
  if (!(await upgrade(call, wire))) return
  ledger.frames += FRAMES_PER_SECOND.value
  wire.write(frame(random, Buffer.alloc(CHATTER_BYTES, Uint8Array.of(1, pick(random, [0x09, 0x7f, 0x8b, 0xff])))))
  await expectEnd(call, wire, [Close.rate_limited.code], () => 'chatter before HELLO')
}

const websocket: Plan = async (call) => {
  const { random, ledger } = call
  const wire = open(call)
  if (!(await upgrade(call, wire))) return
  const [name, make] = pick(random, Object.entries(broken))
  ledger.frames++
  wire.write(make(random))
  if (below(random, 2) === 0) wire.write(frame(random, Uint8Array.of(1, 7)))
  const isEcho = MAY_BE_A_CLOSE.test(name)
  if (!isEcho) {
    await expectAnything(call, wire, () => `a broken WebSocket: ${name}`)
    return
  }
  // The WebSocket layer answers a close frame with the same code, so the code is no evidence here.
  await wire.until(() => wire.end !== null, OPTIONAL_ANSWER_MS)
  ledger.left++
  wire.leave()
}

const text: Plan = async (call) => {
  const wire = open(call)
  if (!(await upgrade(call, wire))) return
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

/** Sends a valid HELLO and another frame without waiting for WELCOME. */
const impatient: Plan = async (call) => {
  const { random, ledger, suspects } = call
  const own = suspects.newDevice(random)
  const wire = open(call, () => undefined)
  if (!(await upgrade(call, wire))) return
  ledger.frames += 2
  const second = pick<DeviceFrame>(random, [
    { type: 'PING' },
    { type: 'ACK', ids: [1n] },
    { type: 'BYE' },
    helloFrame({ credential: own.credential, connection: 2 }),
  ])
  sendFrames(random, wire, helloFrame({ credential: own.credential, connection: 1, ...extremeHello(random) }), second)
  await expectEnd(call, wire, [Close.unexpected_frame.code], () => `${second.type} before WELCOME`)
}

const http: Plan = async (call) => {
  const { ledger, random } = call
  const { name, bytes } = devicePortShot(random)
  const wire = open(call)
  wire.write(bytes)
  if (below(random, 3) === 0) wire.shut()
  await wire.until(() => wire.end !== null || wire.status > 0, OPTIONAL_ANSWER_MS)
  if (wire.status >= 100 && wire.status < 300) ledger.surprise(call.name, `${name} was answered with ${wire.status}`)
  if (wire.status > 0) ledger.answered(wire.status)
  else ledger.left++
  wire.leave()
}

const proxy: Plan = async (call) => {
  const { name, bytes } = proxyShot(call.random)
  const wire = open(call)
  wire.write(bytes)
  if (await wire.upgraded(OPTIONAL_ANSWER_MS)) {
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
  if (!isAllowed) ledger.surprise(call.name, `the API answered ${name} with ${status}`)
  if (status > 0) ledger.answered(status)
  else ledger.left++
  wire.leave()
}

/** The weights are shares of connections. Most frames are sent by sessions, which live longer. */
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
