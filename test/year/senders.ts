/**
 * The app servers and the operator of the year, with the patience of such programs: what is answered 429 or 503, or not at
 * all, is sent again with its Idempotency-Key, later. What remains refused needs a reason.
 */
import { randomUUID } from 'node:crypto'
import { importPKCS8, SignJWT } from 'jose'
import { sleep } from '../../src/clock.js'
import type { VirtualClock } from '../sim/clock.js'
import { between, type Random } from '../sim/random.js'
import { type Answer, type Balancer, NoAnswer, PUBLIC_URL, type Request } from './http.js'
import type { WorkCount } from './real-work.js'

export interface SenderWorld {
  readonly clock: VirtualClock
  readonly random: Random
  readonly balancer: Balancer
  readonly work: WorkCount
  /** A request that was refused in the end. `code`: of the error. */
  refused(what: string, code: string): void
}

/** The settings file of an app server, as far as it is used. */
export interface ServiceAccount {
  client_id: string
  key_id: string
  private_key: string
}

/** With the waits between them, as many as outlast a minute without the store. */
const ATTEMPTS_MAX = 60
const RETRY_MS: readonly [number, number] = [500, 3_000]
const RETRY_MS_MAX = 30_000
const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'

export class AppServer {
  private token = ''
  private tokenUntilMs = 0
  private asking: Promise<void> | null = null

  constructor(
    readonly project: string,
    private account: ServiceAccount,
    private readonly world: SenderWorld,
  ) {}

  useKey(account: ServiceAccount): void {
    this.account = account
    this.tokenUntilMs = 0
  }

  /** Null: refused for one of the reasons in `mayBe`, which are codes of errors. */
  async send(message: object, key = randomUUID(), mayBe: readonly string[] = []): Promise<Answer | null> {
    return this.ask('POST', '/messages', { body: message, key, mayBe })
  }

  /** @param isOpen false: it has ended, so that its history may be gone. */
  cancel(id: string, isOpen: boolean): Promise<Answer | null> {
    return this.ask('DELETE', `/messages/${id}`, { mayBe: ['already_final', ...(isOpen ? [] : ['unknown_message'])] })
  }

  private async ask(
    method: Request['method'],
    path: string,
    { body, key, mayBe }: { body?: object; key?: string; mayBe: readonly string[] },
  ): Promise<Answer | null> {
    for (let attempt = 1; ; attempt++) {
      if (!(await this.ensureToken())) return null
      const answer = await tryOnce(this.world.balancer, {
        method,
        url: `/push/public/api/v1/projects/${this.project}${path}`,
        headers: { authorization: `Bearer ${this.token}`, ...(key && { 'idempotency-key': key }) },
        ...(body && { body }),
        address: '192.0.2.1',
      })
      if (answer && answer.status < 300) return answer
      const code = codeOf(answer)
      if (mayBe.includes(code)) return null
      // A token may have got its scopes while the project was suspended: another one has all of them.
      if (answer?.status === 403 && this.tokenUntilMs > 0 && attempt === 1) {
        this.tokenUntilMs = 0
        continue
      }
      if (!isTemporary(answer) || attempt === ATTEMPTS_MAX) {
        this.world.refused(`${method} ${path} of ${this.project}`, code)
        return null
      }
      await this.pause(answer)
    }
  }

  /** False: there is none to be had. */
  private async ensureToken(): Promise<boolean> {
    const { clock } = this.world
    const isGood = () => clock.now() < this.tokenUntilMs - 60_000
    if (isGood()) return true
    this.asking ??= this.newToken().finally(() => {
      this.asking = null
    })
    await this.asking
    return isGood()
  }

  private async newToken(): Promise<void> {
    const { clock, balancer } = this.world
    for (let attempt = 1; ; attempt++) {
      const form = new URLSearchParams({
        grant_type: 'client_credentials',
        client_assertion_type: ASSERTION_TYPE,
        client_assertion: await this.world.work.during(this.assertion()),
      })
      const answer = await tryOnce(balancer, {
        method: 'POST',
        url: '/auth/public/oauth2/token',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: form.toString(),
        address: '192.0.2.1',
      })
      if (answer?.status === 200) {
        this.token = String(answer.body.access_token)
        this.tokenUntilMs = clock.now() + Number(answer.body.expires_in) * 1_000
        return
      }
      if (!isTemporary(answer) || attempt === ATTEMPTS_MAX) {
        const { error, error_description: why } = answer?.body ?? { error: 'no answer' }
        this.world.refused(`an access token for ${this.project}`, `${error} ${why ?? ''}`)
        return
      }
      await this.pause(answer)
    }
  }

  private async assertion(): Promise<string> {
    const { client_id: clientId, key_id: kid, private_key: pem } = this.account
    const now = Math.floor(this.world.clock.now() / 1_000)
    return new SignJWT({ iss: clientId, sub: clientId, aud: `${PUBLIC_URL}/auth/public/oauth2/token` })
      .setProtectedHeader({ alg: 'ES256', kid })
      .setJti(randomUUID())
      .setIssuedAt(now)
      .setExpirationTime(now + 120)
      .sign(await importPKCS8(pem, 'ES256'))
  }

  private pause(answer: Answer | null): Promise<void> {
    return pause(this.world, answer)
  }
}

/** Whoever administers the installation, over the admin API. */
export class Operator {
  constructor(
    private readonly secret: string,
    private readonly world: SenderWorld,
  ) {}

  /** {}: it was refused. */
  async ask(method: Request['method'], path: string, body?: object): Promise<Record<string, unknown>> {
    for (let attempt = 1; ; attempt++) {
      const answer = await tryOnce(
        this.world.balancer,
        {
          method,
          url: `/admin/v1${path}`,
          headers: { authorization: `Bearer ${this.secret}` },
          ...(body && { body }),
          address: '192.0.2.2',
        },
        'admin',
      )
      if (answer && answer.status < 300) return answer.body
      if (!isTemporary(answer) || attempt === ATTEMPTS_MAX) {
        this.world.refused(`${method} ${path}`, codeOf(answer))
        return {}
      }
      await pause(this.world, answer)
    }
  }
}

/** Null: no answer. */
async function tryOnce(balancer: Balancer, request: Request, side: 'api' | 'admin' = 'api'): Promise<Answer | null> {
  try {
    return await balancer.ask(side, request)
  } catch (error) {
    if (error instanceof NoAnswer) return null
    throw error
  }
}

const isTemporary = (answer: Answer | null) =>
  answer === null || answer.status === 429 || answer.status === 408 || answer.status >= 500

function codeOf(answer: Answer | null): string {
  const error = answer?.body.error
  if (typeof error === 'object' && error !== null && 'code' in error) return String(error.code)
  return answer ? `http_${answer.status}` : 'no answer'
}

function pause({ clock, random }: SenderWorld, answer: Answer | null): Promise<void> {
  const hintMs = 1_000 * (Number(answer?.headers['retry-after']) || 0)
  return sleep(clock, Math.min(hintMs, RETRY_MS_MAX) + between(random, RETRY_MS))
}
