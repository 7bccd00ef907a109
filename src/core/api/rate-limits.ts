/**
 * Rate limits of projects and of addresses. Each core process grants its share: the limit divided by the number of
 * processes that have a gateway now (ADR 18). A refused request gets 429 with Retry-After; answers to sends have the fields
 * RateLimit and RateLimit-Policy of the IETF draft.
 */
import type { FastifyInstance, FastifyReply } from 'fastify'
import { CodedError } from '../../../protocol/errors.js'
import type { Clock } from '../../clock.js'
import type { ProjectRecord } from '../../store/tenants.js'
import type { LimitSettings } from './settings.js'
import { type Rate, type TakeResult, TokenBuckets } from './token-buckets.js'

/** How many core processes have a gateway now; at least 1. */
export type CountGateways = () => number

const PROJECTS_MAX = 10_000
const ADDRESSES_MAX = 65_536
const ENROLMENT_KEYS_MAX = 10_000

export class RateLimits {
  private readonly projects = new TokenBuckets(PROJECTS_MAX)
  private readonly addresses = new TokenBuckets(ADDRESSES_MAX)
  private readonly enrolling = new TokenBuckets(ADDRESSES_MAX)
  private readonly enrolmentKeys = new TokenBuckets(ENROLMENT_KEYS_MAX)

  constructor(
    private readonly settings: LimitSettings,
    private readonly clock: Clock,
    private readonly gateways: CountGateways,
  ) {}

  /** Takes `count` messages of a project. Throws CodedError `rate_limited`. */
  takeMessages(project: ProjectRecord, count: number, reply: FastifyReply): void {
    const perSecond = project.limits?.messagesPerSecond ?? this.settings.messagesPerSecond
    const rate = this.share(perSecond)
    if (rate === null) return
    const taken = this.projects.take(project.id, count, rate, this.clock.now())
    setRateHeaders(reply, 'messages', rate, taken)
    refuse(reply, taken)
  }

  /** Takes one request of an address, before any other step. Throws CodedError `rate_limited`. */
  takeRequest(address: string | undefined, reply: FastifyReply): void {
    const rate = this.share(this.settings.requestsPerSecond)
    if (rate !== null) refuse(reply, this.addresses.take(networkOf(address), 1, rate, this.clock.now()))
  }

  /** An enrolment or a renewal from an address, before its secret is looked at. Throws CodedError `rate_limited`. */
  takeEnrolment(address: string | undefined, reply: FastifyReply): void {
    const rate = this.share(this.settings.enrolmentsPerSecond)
    if (rate !== null) refuse(reply, this.enrolling.take(networkOf(address), 1, rate, this.clock.now()))
  }

  /** An enrolment with this key, which is a true one. Throws CodedError `rate_limited`. */
  takeEnrolmentOf(key: string, reply: FastifyReply): void {
    const rate = this.share(this.settings.enrolmentsPerKeyPerSecond)
    if (rate !== null) refuse(reply, this.enrolmentKeys.take(key, 1, rate, this.clock.now()))
  }

  private share(perSecond: number): Rate | null {
    if (perSecond === 0) return null
    const own = perSecond / this.gateways()
    return { perSecond: own, burst: own * this.settings.burstSeconds }
  }
}

/** Probes of an orchestrator are frequent, and answered from memory: they have no limits. */
export const PROBES: ReadonlySet<string> = new Set(['/healthz', '/readyz'])

export function limitAddresses(app: FastifyInstance, limits: RateLimits): void {
  app.addHook('onRequest', (request, reply, done) => {
    try {
      if (!PROBES.has(request.url)) limits.takeRequest(request.ip, reply)
      done()
    } catch (error) {
      done(error as Error)
    }
  })
}

function refuse(reply: FastifyReply, { waitMs }: TakeResult): void {
  if (waitMs === 0) return
  reply.header('retry-after', Math.ceil(waitMs / 1000))
  throw new CodedError('rate_limited', undefined, { retryAfterMs: waitMs })
}

/** `q` may be taken at once in a window of `w` seconds; `r` are left, and all are there again after `t` seconds. */
function setRateHeaders(reply: FastifyReply, name: string, { perSecond, burst }: Rate, { left }: TakeResult): void {
  const fullAfterSeconds = Math.ceil((burst - left) / perSecond)
  reply.header('ratelimit-policy', `"${name}";q=${Math.floor(burst)};w=${Math.ceil(burst / perSecond)}`)
  reply.header('ratelimit', `"${name}";r=${Math.max(0, Math.floor(left))};t=${fullAfterSeconds}`)
}

/**
 * The owner of one IPv6 address has 2^64 of them, so only the first half counts. Node knows no address of a connection that
 * is closed already, although fastify's types say so: all such connections count as one address.
 */
export function networkOf(address: string | undefined): string {
  if (address === undefined) return ''
  if (!address.includes(':') || address.includes('.')) return address
  const [head = '', tail] = address.split('::')
  const before = head.split(':').filter(Boolean)
  const after = (tail ?? '').split(':').filter(Boolean)
  const zeros = Array<string>(Math.max(0, 8 - before.length - after.length)).fill('0')
  return [...before, ...zeros, ...after].slice(0, 4).join(':')
}
