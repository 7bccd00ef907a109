/** /healthz: the process answers. /readyz: it can do its work, NATS is connected and the streams are there. */
import Type from 'typebox'
import { CodedError } from '../../../../protocol/errors.js'
import type { ApiRoute, Call } from './context.js'

/** A look at the streams is good for so long, so that an impatient prober costs the store nothing. */
const READY_FOR_MS = 1_000

const Said = Type.Object({ status: Type.String() })

export function healthRoutes(): ApiRoute[] {
  return [
    {
      method: 'GET',
      url: '/healthz',
      handler: showHealth,
      operation: {
        id: 'showHealth',
        summary: 'Whether the process answers',
        tag: 'service',
        answers: { 200: { description: 'It does.', body: Said } },
        errors: [],
      },
    },
    {
      method: 'GET',
      url: '/readyz',
      handler: readiness(),
      operation: {
        id: 'showReadiness',
        summary: 'Whether it can do its work: NATS is connected, and the streams are there',
        tag: 'service',
        answers: { 200: { description: 'It can.', body: Said } },
        errors: [],
      },
    },
  ]
}

function showHealth(): object {
  return { status: 'ok' }
}

function readiness(): (call: Call) => Promise<object> {
  let missing: Promise<string[]> = Promise.resolve([])
  let lookedAtMs = Number.NEGATIVE_INFINITY
  return async function showReadiness({ context }) {
    if (!context.broker.connected()) throw new CodedError('unavailable', 'NATS is not connected')
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
