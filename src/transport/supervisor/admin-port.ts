/**
 * The admin port of an instance. The commands `borealis status`, `drain`, `rolling-restart` and `reload` use it, and
 * operators with curl.
 *
 *   GET  /status           200 with InstanceStatus
 *   GET  /healthz /readyz  the process answers; the instance accepts new devices
 *   POST /drain            202; devices are asked to leave, then the process ends, as after SIGTERM
 *   POST /restart          202 with RestartProgress; workers are replaced one after the other. 409: not possible now
 *   POST /reload           200; keys and certificates are read again, as after SIGHUP. 422: invalid, nothing changed
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
  /** Begins a drain and returns at once. */
  drain(): void
  /** Begins a rolling restart. Null if that is not possible now. */
  restart(): RestartProgress | null
  /** Rejects if the files are invalid; then nothing has changed. */
  reload(): Promise<void>
}

/** Rejects if the port is in use, or if it is open to the network without a token. */
export function serveAdmin(settings: AdminSettings, actions: AdminActions): Promise<AnswerServer> {
  const { host, port, token } = settings
  if (token === '' && !isLoopback(host)) throw new Error(`the admin port on ${host} needs a token (admin.token)`)
  return serveAnswers({ host, port }, (request) => {
    const health = request.method === 'GET' ? healthAnswer(request.url, actions.isReady) : null
    if (health) return health
    // A web page in a browser on this machine can reach loopback too. The browser then sends an Origin header.
    if (request.headers.origin !== undefined)
      return { status: 403, body: { error: 'requests of web pages are refused' } }
    if (token !== '' && !hasToken(request, token)) {
      return { status: 401, body: { error: 'send the token (admin.token) as Authorization: Bearer' } }
    }
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
      return { status: 409, body: { error: 'a restart is under way, or the instance is draining' } }
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

/**
 * Compares digests, because all digests have the same length: the comparison must not reveal the length of the token.
 */
function hasToken({ headers }: IncomingMessage, token: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(headers.authorization ?? ''), digest(`Bearer ${token}`))
}
