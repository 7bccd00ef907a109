/**
 * Sends messages over HTTP and prints each answer: docs/send/README.md.
 *
 *     npm install jose yaml
 *     node send.js settings.yaml order-4711 '{"type": "device", "target": "<registrationId>", "ttl": "1h", ...}'
 *
 * The first argument is the settings file of the project, the second your name for this job: the same name sends the same
 * messages only once. Each further argument is a message. Exit code 0: the service has stored all of them.
 */
import { createPrivateKey, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { SignJWT } from 'jose'
import { parse } from 'yaml'

interface Settings {
  project_id: string
  api_url: string
  token_url: string
  client_id: string
  private_key: string
  key_id: string
}

interface Answer {
  status: number
  retryAfterMs: number
  body: { id?: string; access_token?: string; expires_in?: number; error?: unknown }
}

const TIMEOUT_MS = 10_000
const ATTEMPTS_MAX = 8
const RENEW_BEFORE_END_MS = 60_000

class Sender {
  private readonly settings: Settings
  private token = { text: '', renewAtMs: 0 }

  constructor(settings: Settings) {
    this.settings = settings
  }

  /** Tries until the service accepts or refuses the message. The same key never stores a message twice. */
  async send(message: string, idempotencyKey: string): Promise<Answer['body']> {
    let problem = ''
    let retryAfterMs = 0
    let hasNewToken = false
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      if (attempt > 0) await sleep(Math.max(retryAfterMs, Math.random() * 250 * 2 ** attempt))
      try {
        const answer = await this.tryOnce(message, idempotencyKey)
        if (answer.status < 300) return answer.body
        problem = `${answer.status} ${JSON.stringify(answer.body)}`
        retryAfterMs = answer.retryAfterMs
        // The token has expired, or the key that signs tokens was replaced: one attempt with a new token.
        if (answer.status === 401 && !hasNewToken) {
          hasNewToken = true
          this.token.renewAtMs = 0
        } else if (answer.status !== 429 && answer.status < 500) break
      } catch (error) {
        // No answer came: the message may be stored or not.
        problem = String(error)
      }
    }
    throw new Error(`not sent: ${problem}`)
  }

  private async tryOnce(message: string, idempotencyKey: string): Promise<Answer> {
    const { api_url: api, project_id: project } = this.settings
    if (Date.now() >= this.token.renewAtMs) {
      const answer = await this.requestToken()
      const { access_token: text, expires_in: seconds = 0 } = answer.body
      if (text === undefined) return answer
      this.token = { text, renewAtMs: Date.now() + seconds * 1_000 - RENEW_BEFORE_END_MS }
    }
    return post(`${api}projects/${project}/messages`, message, {
      authorization: `Bearer ${this.token.text}`,
      'content-type': 'application/json',
      'idempotency-key': idempotencyKey,
    })
  }

  /** Proves with the private key that this is the app server of the project (OAuth 2.0, private_key_jwt). */
  private async requestToken(): Promise<Answer> {
    const { client_id: client, key_id: kid, private_key: pem, token_url: url } = this.settings
    const key = createPrivateKey(pem)
    const assertion = await new SignJWT()
      .setProtectedHeader({ alg: key.asymmetricKeyType === 'ec' ? 'ES256' : 'RS256', kid })
      .setIssuer(client)
      .setSubject(client)
      .setAudience(url)
      .setJti(randomUUID())
      .setIssuedAt()
      .setExpirationTime('1 minute')
      .sign(key)
    const form = new URLSearchParams({
      grant_type: 'client_credentials',
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: assertion,
    })
    return post(url, form.toString(), { 'content-type': 'application/x-www-form-urlencoded' })
  }
}

/** Rejects where no complete answer came in time. */
async function post(url: string, body: string, headers: Record<string, string>): Promise<Answer> {
  const response = await fetch(url, { method: 'POST', body, headers, signal: AbortSignal.timeout(TIMEOUT_MS) })
  const retryAfterMs = Number(response.headers.get('retry-after') ?? 0) * 1_000
  return { status: response.status, retryAfterMs, body: (await response.json()) as Answer['body'] }
}

const [file, job, ...messages] = process.argv.slice(2)
if (file === undefined || job === undefined || messages.length === 0) {
  throw new Error('usage: send.js <settings file> <name of the job> <message as JSON>...')
}
const sender = new Sender(parse(readFileSync(file, 'utf8')).push_notification_system)
for (const [index, message] of messages.entries()) {
  process.stdout.write(`${JSON.stringify(await sender.send(message, `${job}-${index}`))}\n`)
}
