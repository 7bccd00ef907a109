/**
 * Receives events at a webhook, verifies them and prints each one once: docs/send/events.md.
 *
 *     WEBHOOK_SECRET=whsec_... PORT=8787 node dist/docs/examples/webhook.js
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingHttpHeaders } from 'node:http'

const { WEBHOOK_SECRET = '', PORT = '8787' } = process.env
/** An older request is a replay, or a clock is wrong. */
const AGE_SECONDS_MAX = 300
const BODY_BYTES_MAX = 8 * 1024 * 1024

const key = Buffer.from(WEBHOOK_SECRET.replace(/^whsec_/, ''), 'base64')
if (key.length < 24) throw new Error('WEBHOOK_SECRET must be whsec_ and the base64 that the server gave you')

/** Signs the body as it came, byte for byte: JSON that is parsed and written again has another signature. */
function isAuthentic(headers: IncomingHttpHeaders, body: Buffer): boolean {
  const { 'webhook-id': id = '', 'webhook-timestamp': timestamp = '', 'webhook-signature': signatures = '' } = headers
  const isFresh = Math.abs(Date.now() / 1_000 - Number(timestamp)) <= AGE_SECONDS_MAX
  const wanted = Buffer.from(
    `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64')}`,
  )
  // While a secret is being replaced there are two signatures.
  const given = String(signatures)
    .split(' ')
    .map((one) => Buffer.from(one))
  return isFresh && given.some((one) => one.length === wanted.length && timingSafeEqual(one, wanted))
}

/** Keep these ids in a table with a unique key, in the same transaction as the work that an event leads to. */
const seen = new Set<string>()

createServer(async (request, response) => {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request) {
    bytes += (chunk as Buffer).length
    if (bytes > BODY_BYTES_MAX) return request.destroy()
    chunks.push(chunk as Buffer)
  }
  const body = Buffer.concat(chunks)
  if (!isAuthentic(request.headers, body)) return response.writeHead(401).end()
  const { events } = JSON.parse(body.toString()) as { events: { id: string; kind: string; messageId: string }[] }
  for (const event of events) {
    if (seen.has(event.id)) continue
    seen.add(event.id)
    process.stdout.write(`${JSON.stringify(event)}\n`)
  }
  // Last of all: a request without an answer of 2xx comes again.
  return response.writeHead(204).end()
}).listen(Number(PORT), '127.0.0.1', () => process.stdout.write('listening\n'))
