/**
 * The admin port of an instance: what `borealis drain` and its like talk to, and operators with curl.
 *
 *   GET  /status           InstanceStatus
 *   GET  /healthz /readyz  the process answers; new devices are welcome
 *   POST /drain            202; devices are asked to leave, then the process ends, as at SIGTERM
 *   POST /restart          202 with RestartProgress; workers are replaced one after the other. 409: one is under way
 *   POST /reload           200; keys and certificates are read anew, as at SIGHUP. 422: they are no good, nothing changed
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { isIPv4 } from 'node:net'
import { type Answer, type AnswerServer, healthAnswer, serveAnswers } from '../../observe/answer.js'
import type { AdminSettings } from './admin-settings.js'
import type { InstanceStatus, RestartProgress } from './instance-status.js'

export interface AdminActions {
  isReady(): boolean
  status(): Promise<InstanceStatus>
  /** Returns at once. */
  drain(): void
  /** Null: not now. */
  restart(): RestartProgress | null
  /** Rejects where the files are no good; then what was stays. */
  reload(): Promise<void>
}

/** Rejects where the port is taken, or open to the network without a token. */
export function serveAdmin(settings: AdminSettings, actions: AdminActions): Promise<AnswerServer> {
  const { host, port, token } = settings
  if (token === '' && !isLoopback(host)) throw new Error(`the admin port on ${host} needs a token (admin.token)`)
  return serveAnswers({ host, port }, (request) => {
    const health = request.method === 'GET' ? healthAnswer(request.url, actions.isReady) : null
    if (health) return health
    // A page in a browser on this machine reaches loopback too, and says where it comes from.
    if (request.headers.origin !== undefined) return { status: 403, body: { error: 'not from a browser' } }
    if (token !== '' && !isToken(request, token)) return { status: 401, body: { error: 'a bearer token is needed' } }
    return answer(request, actions)
  })
}

async function answer({ method, url }: IncomingMessage, actions: AdminActions): Promise<Answer | null> {
  switch (`${method} ${url}`) {
    case 'GET /status':
      return { status: 200, body: await actions.status() }
    case 'POST /drain':
      actions.drain()
      return { status: 202, body: { draining: true } }
    case 'POST /restart': {
      const progress = actions.restart()
      if (progress) return { status: 202, body: progress }
      return { status: 409, body: { error: 'a restart is under way, or the instance leaves' } }
    }
    case 'POST /reload':
      return actions.reload().then(
        () => ({ status: 200, body: { reloaded: true } }),
        (error: unknown) => ({ status: 422, body: { error: error instanceof Error ? error.message : String(error) } }),
      )
    default:
      return null
  }
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}

/** Digests have one length, so that the comparison tells nothing about the token's. */
function isToken({ headers }: IncomingMessage, token: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(headers.authorization ?? ''), digest(`Bearer ${token}`))
}
