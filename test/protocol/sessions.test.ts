/**
 * protocol/vectors/sessions.json: each step is written and read alike by both codecs, and each session obeys the
 * states.
 */
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

t.test('every message of a session is what both codecs write, and reads as its frames in both', async (t) => {
  for (const { name, steps } of sessions) {
    for (const step of steps) {
      if ('close' in step) continue
      const { direction, hex, frames, meaning } = step
      const place = `${name}: ${meaning}`
      t.equal(hexOf(encodeFrames(frames.map(frameFromJson))), hex, `${place}: encoder`)
      t.equal(hexOf(frames.flatMap(naiveEncode)), hex, `${place}: naive encoder`)
      t.strictSame(decode(bytesOf(hex), direction), { frames, error: null, offset: 0 }, `${place}: decoder`)
      t.strictSame(oracle(bytesOf(hex), direction), { frames, error: null, offset: 0 }, `${place}: naive decoder`)
    }
  }
  t.ok(sessions.length >= 10)
})

t.test('every frame is sent in a state that allows it, and every close code is one of the protocol', async (t) => {
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
    t.ok((hellos[0] ?? 0) > session.given.connection, `${session.name}: above what is given`)
    const asked = session.steps
      .flatMap(messageOf('device'))
      .flatMap(({ frames }) => frames.map(({ request }) => request))
    const answered = session.steps
      .flatMap(messageOf('server'))
      .flatMap(({ frames }) => frames.map(({ request }) => request))
    t.strictSame(answered.filter(Boolean), asked.filter(Boolean), `${session.name}: requests and answers`)
  }
})

function framesOf(session: Session, direction: 'device' | 'server', type: string): Record<string, unknown>[] {
  return session.steps.flatMap(messageOf(direction)).flatMap(({ frames }) => frames.filter((f) => f.type === type))
}

function messageOf(direction: 'device' | 'server') {
  return (step: Session['steps'][number]): MessageStep[] =>
    'close' in step || step.direction !== direction ? [] : [step]
}
