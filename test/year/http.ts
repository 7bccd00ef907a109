/**
 * HTTP of the year: a balancer in front of the cores. A request travels in virtual time and is injected into the real
 * server of a core that is up, with all its hooks, limits and handlers; no socket is opened.
 */
import type { Clock } from '../../src/clock.js'
import type { Fetch } from '../../src/device/enrol.js'
import type { VirtualClock } from '../sim/clock.js'
import { between, type Random } from '../sim/random.js'
import type { Side, YearCore } from './core.js'

export interface Request {
  method: 'GET' | 'POST' | 'DELETE'
  url: string
  headers?: Record<string, string>
  /** Text as it is, or what becomes JSON. */
  body?: string | object
  /** Who asks: the limits of addresses count it. */
  address: string
}

export interface Answer {
  status: number
  headers: Record<string, unknown>
  text: string
  /** {} where the text is no JSON object. */
  body: Record<string, unknown>
}

/** No core is up, or the one that was asked did not answer. */
export class NoAnswer extends Error {
  override readonly name = 'NoAnswer'
}

export const PUBLIC_URL = 'https://push.year'

/** One way. */
const TRAVEL_MS = 2
const PATIENCE_MS = 30_000
const REFUSED_MS = 50

export class Balancer {
  /** Requests without an answer. */
  waiting = 0

  constructor(
    private readonly clock: VirtualClock,
    private readonly random: Random,
    private readonly cores: readonly YearCore[],
  ) {}

  /** Rejects with NoAnswer. */
  ask(side: Side, request: Request): Promise<Answer> {
    this.waiting++
    return new Promise<Answer>((resolve, reject) => {
      const up = this.cores.filter((core) => core.isUp)
      const core = up[between(this.random, [0, up.length - 1])]
      const app = core?.app(side)
      const { client } = core ?? {}
      if (!core || !app || !client) {
        this.clock.after(REFUSED_MS, () => reject(new NoAnswer('no core is up')))
        return
      }
      const giveUp = this.clock.after(PATIENCE_MS, () => reject(new NoAnswer(`${core.name} does not answer`)))
      client.clock.after(TRAVEL_MS, () => {
        const done = core.beginRequest()
        const { method, url, headers = {}, body, address } = request
        const injected = app.inject({
          method,
          url,
          headers,
          remoteAddress: address,
          ...(body !== undefined && { payload: body }),
        })
        injected.then(
          ({ statusCode, headers, payload }) => {
            done()
            const answer = { status: statusCode, headers, text: payload, body: objectOf(payload) }
            client.clock.after(TRAVEL_MS, () => {
              giveUp()
              resolve(answer)
            })
          },
          (error: unknown) => {
            done()
            giveUp()
            reject(error)
          },
        )
      })
    }).finally(() => {
      this.waiting--
    })
  }

  /** As the platform of a device has it, with the clock and the address of that device. */
  fetchOf(clock: Clock, address: string): Fetch {
    return async (input, init = {}) => {
      const { pathname, search } = new URL(String(input))
      const request = this.ask('api', {
        method: init.method as Request['method'],
        url: pathname + search,
        headers: init.headers as Record<string, string>,
        ...(typeof init.body === 'string' && { body: init.body }),
        address,
      })
      const answer = await new Promise<Answer>((resolve, reject) => {
        request.then(
          (found) => clock.after(0, () => resolve(found)),
          (error: unknown) => clock.after(0, () => reject(new TypeError('fetch failed', { cause: error }))),
        )
      })
      const { status, text, headers } = answer
      const retryAfter = headers['retry-after']
      return new Response(text, {
        status,
        headers: retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) },
      })
    }
  }
}

function objectOf(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}
