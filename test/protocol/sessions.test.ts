/** protocol/vectors/sessions.json: both codecs encode and decode each step alike, and each session obeys the states. */
import t from 'tap'
import { Close } from '../../protocol/close-codes.js'
import { encodeFrames } from '../../protocol/encode.js'
import type { FrameName } from '../../protocol/frame.js'
import { type ConnectionState, States, Transitions } from '../../protocol/states.js'
import { frameFromJson } from './from-json.js'
import { naiveEncode } from './naive-encode.js'
import { type MessageStep, readSessions, type Session } from './sessions.js'
import { bytesOf, decode, hexOf, oracle } from './support.js'

const sessions = readSessions()

t.test('each message of a session equals the encoded frames, and decodes to them, in both codecs', async (t) => {
  for (const { name, steps } of sessions) {
    for (const message of steps) {
      if ('close' in message) continue
      const { direction, hex, frames, meaning } = message
      const step = `${name}: ${meaning}`
      t.equal(hexOf(encodeFrames(frames.map(frameFromJson))), hex, `${step}: encoder`)
      t.equal(hexOf(frames.flatMap(naiveEncode)), hex, `${step}: naive encoder`)
      t.strictSame(decode(bytesOf(hex), direction), { frames, error: null, offset: 0 }, `${step}: decoder`)
      t.strictSame(oracle(bytesOf(hex), direction), { frames, error: null, offset: 0 }, `${step}: naive decoder`)
    }
  }
  t.ok(sessions.length >= 10)
})

t.test('each frame is sent in a state that allows it, and each close code is one of the protocol', async (t) => {
  for (const { name, steps } of sessions) {
    let state: ConnectionState = 'opened'
    for (const step of steps) {
      if ('close' in step) {
        t.ok(
          step.close === 1006 || Object.values(Close).some(({ code }) => code === step.close),
          `${name}: ${step.close}`,
        )
        state = 'opened'
        continue
      }
      for (const { type } of step.frames) {
        const frame = type as FrameName
        t.ok(States[state][step.direction].includes(frame), `${name}: ${frame} in ${state}`)
        state = Transitions.find(({ from, on }) => from === state && on === frame)?.to ?? state
      }
    }
  }
})

t.test('the connection number rises with each HELLO, and each request is answered once', async (t) => {
  for (const session of sessions) {
    const hellos = framesOf(session, 'device', 'HELLO').map(({ connection }) => Number(connection))
    t.strictSame(
      hellos,
      [...new Set(hellos)].sort((a, b) => a - b),
      session.name,
    )
    t.ok((hellos[0] ?? 0) > session.given.connection, `${session.name}: above the stored number`)
    const requests = session.steps
      .flatMap(messageOf('device'))
      .flatMap(({ frames }) => frames.map(({ request }) => request))
    const answers = session.steps
      .flatMap(messageOf('server'))
      .flatMap(({ frames }) => frames.map(({ request }) => request))
    t.strictSame(answers.filter(Boolean), requests.filter(Boolean), `${session.name}: requests and answers`)
  }
})

function framesOf(session: Session, direction: 'device' | 'server', type: string): Record<string, unknown>[] {
  return session.steps.flatMap(messageOf(direction)).flatMap(({ frames }) => frames.filter((f) => f.type === type))
}

function messageOf(direction: 'device' | 'server') {
  return (step: Session['steps'][number]): MessageStep[] =>
    'close' in step || step.direction !== direction ? [] : [step]
}
