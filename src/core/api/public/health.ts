/** /healthz: the process answers. /readyz: it can do its work, since NATS is connected and the streams exist. */
import Type from 'typebox'
import { CodedError } from '../../../../protocol/errors.js'
import { route } from '../route.js'
import { type ApiRoute, anybody, type Call } from './context.js'

/** The result of a look at the streams is used for this time, so that an impatient prober costs the store nothing. */
const READY_FOR_MS = 1_000

const Health = Type.Object({ status: Type.String() }, { $id: 'Health' })

export function healthRoutes(): ApiRoute[] {
  return [
    route({
      method: 'GET',
      url: '/healthz',
      before: anybody,
      handler: () => ({ status: 'ok' }),
      operation: {
        id: 'showHealth',
        summary: 'Shows that the process answers',
        tag: 'service',
        answers: { 200: { description: 'The process answers.', body: Health } },
        errors: [],
      },
    }),
    route({
      method: 'GET',
      url: '/readyz',
      before: anybody,
      handler: readiness(),
      operation: {
        id: 'showReadiness',
        summary: 'Shows that the process can do its work: NATS is connected, and the streams exist',
        tag: 'service',
        answers: { 200: { description: 'The process can do its work.', body: Health } },
        errors: [],
      },
    }),
  ]
}

function readiness(): (call: Call) => Promise<object> {
  let missing: Promise<string[]> = Promise.resolve([])
  let lookedAtMs = Number.NEGATIVE_INFINITY
  return async function showReadiness({ context }) {
    if (!context.broker.connected()) throw new CodedError('unavailable', 'NATS is not connected')
    const denied = context.broker.denied()
    if (denied.length > 0) throw new CodedError('unavailable', 'NATS refuses subjects to this process', { denied })
    const nowMs = context.clock.now()
    if (nowMs - lookedAtMs > READY_FOR_MS) {
      lookedAtMs = nowMs
      missing = missingStreams(context)
    }
    const streams = await missing
    if (streams.length > 0) throw new CodedError('unavailable', 'streams are missing or do not answer', { streams })
    return { status: 'ready' }
  }
}

async function missingStreams({ broker, streams }: Call['context']): Promise<string[]> {
  const looks = await Promise.allSettled(streams.map((name) => broker.log(name).state()))
  return streams.filter((_, index) => looks[index]?.status === 'rejected')
}
