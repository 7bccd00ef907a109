/** An app server that pushes over HTTP. Each request has a batch of targets, and the batches go round the fleet. */
import { Agent, request } from 'node:http'
import { MESSAGE, TITLE } from './content.js'
import { nowMicros } from './micros.js'
import { BenchError } from './scenario.js'
import { stampAttributes } from './stamp.js'
import { registrationIdOf } from './system/fleet.js'
import type { WholeRig } from './system/whole.js'

export interface PusherOptions {
  connections: number
  /** Targets of one request. */
  batch: number
  ttl?: string
  /** Gives the device number of the n-th message. With it, each message is a request of its own, of type `device`. */
  pick?(n: number): number
}

/** Number of registrationIds that are made in advance, so that this work is not measured. */
const REGISTRATIONS_AT_ONCE = 20_000

const SOCKETS_MAX = 64
const ATTEMPTS_MAX = 20
const RETRY_MS = 250

export class Pusher {
  /** Number of targets that the service accepted with 202. */
  accepted = 0
  /** Number of answers other than 202 and of broken connections. Each such request was repeated. */
  retried = 0
  /** Longest time to any answer, also to one other than 202. */
  slowestMs = 0
  readonly #agent = new Agent({ keepAlive: true, maxSockets: SOCKETS_MAX })
  readonly #registrations: (string | undefined)[]
  #next = 0
  #inFlight = 0
  #isStopped = false

  constructor(
    private readonly rig: Pick<WholeRig, 'system' | 'fleet' | 'token'>,
    private readonly options: PusherOptions,
  ) {
    const { system, fleet } = rig
    const count = options.pick ? 0 : Math.min(options.connections, REGISTRATIONS_AT_ONCE)
    this.#registrations = Array.from({ length: count }, (_, index) => registrationIdOf(system, fleet, index))
  }

  /** Number of targets of all requests, answered or not. */
  get sent(): number {
    return this.#next
  }

  get inFlight(): number {
    return this.#inFlight
  }

  /** Pushes one batch. Resolves when it is accepted, and rejects if the service refuses it for good. */
  async push(intendedMicros: number, size = this.options.batch): Promise<void> {
    const { connections, pick } = this.options
    const first = this.#next
    this.#next += size
    const target = pick
      ? this.#registration(pick(first))
      : Array.from({ length: size }, (_, i) => this.#registration((first + i) % connections))
    this.#inFlight++
    try {
      await this.#send(pick ? 'device' : 'devices', target, `${first}`, stampAttributes(first, intendedMicros))
      this.accepted += size
    } finally {
      this.#inFlight--
    }
  }

  /** Pushes to every device of the fleet. Resolves when the message is accepted. */
  async broadcast(sequence: number, intendedMicros: number): Promise<void> {
    const { application } = this.rig.fleet
    await this.#send('application', application, `all-${sequence}`, stampAttributes(sequence, intendedMicros))
  }

  /** Open requests fail. */
  stop(): void {
    this.#isStopped = true
    this.#agent.destroy()
  }

  #registration(index: number): string {
    const { system, fleet } = this.rig
    return this.#registrations[index] ?? registrationIdOf(system, fleet, index)
  }

  /** The idempotency key makes a repeated request the same message, even if only the answer was lost. */
  #send(type: string, target: string | string[], key: string, data: object): Promise<void> {
    const { ttl = '10m' } = this.options
    const body = JSON.stringify({ type, target, ttl, notification: { title: TITLE, message: MESSAGE, data } })
    return this.#accepted(body, `bench-${this.rig.fleet.run}-${key}`)
  }

  async #accepted(body: string, key: string): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const askedAtMs = performance.now()
      const answer = await this.#post(body, key).catch((error: Error) => ({ status: 0, text: error.message }))
      this.slowestMs = Math.max(this.slowestMs, performance.now() - askedAtMs)
      if (answer.status === 202) return
      const mayPass = answer.status === 0 || answer.status === 429 || answer.status >= 500
      if (!mayPass || attempt === ATTEMPTS_MAX || this.#isStopped)
        throw new BenchError(`the service answered a push with ${answer.status}: ${answer.text}`)
      this.retried++
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
    }
  }

  #post(body: string, key: string): Promise<{ status: number; text: string }> {
    const { system, fleet, token } = this.rig
    const url = `${system.httpUrl}/push/public/api/v1/projects/${fleet.project}/messages`
    const headers = {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      'idempotency-key': key,
    }
    return new Promise((resolve, reject) => {
      const call = request(url, { method: 'POST', agent: this.#agent, headers }, (response) => {
        let text = ''
        response.setEncoding('utf8').on('data', (part: string) => {
          text += part
        })
        response.once('end', () => resolve({ status: response.statusCode ?? 0, text }))
        response.once('error', reject)
      })
      call.once('error', reject)
      call.end(body)
    })
  }
}

const TURN_MS = 5

export interface PushRate {
  perSecond: number
  seconds: number
}

/**
 * Open loop: the stamp of a batch is the time at which it was due. Resolves when all batches are accepted. If the service
 * refuses one, rejects after all were sent.
 */
export async function pushAtRate(
  pusher: Pick<Pusher, 'push'>,
  batch: number,
  { perSecond, seconds }: PushRate,
): Promise<void> {
  const startMicros = nowMicros()
  const batches = Math.max(1, Math.round((perSecond * seconds) / batch))
  const answers: Promise<void>[] = []
  let sent = 0
  while (sent < batches) {
    const due = Math.min(batches, Math.floor(((nowMicros() - startMicros) / 1e6 / batch) * perSecond) + 1)
    for (; sent < due; sent++) {
      const answer = pusher.push(startMicros + ((sent * batch) / perSecond) * 1e6)
      // Promise.all below reports the failure, once all were sent.
      answer.catch(() => undefined)
      answers.push(answer)
    }
    await new Promise((resolve) => setTimeout(resolve, TURN_MS))
  }
  await Promise.all(answers)
}

/** Pushes at a rate until stop(), one second at a time. */
export class Flow {
  #stopping = false
  readonly #running: Promise<void>

  constructor(pusher: Pusher, batch: number, perSecond: number) {
    this.#running = this.#run(pusher, batch, perSecond)
    // stop() reports the failure.
    this.#running.catch(() => undefined)
  }

  stop(): Promise<void> {
    this.#stopping = true
    return this.#running
  }

  async #run(pusher: Pusher, batch: number, perSecond: number): Promise<void> {
    while (!this.#stopping) await pushAtRate(pusher, batch, { perSecond, seconds: 1 })
  }
}
