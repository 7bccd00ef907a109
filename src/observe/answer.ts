/** Small HTTP listeners for operators: metrics, health and the admin port. Never for app servers or devices. */
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Answer {
  status: number
  /** A string is sent as it is, everything else as JSON. */
  body: unknown
  contentType?: string
}

/** Null becomes 404, and an exception becomes 500. */
export type Route = (request: IncomingMessage) => Answer | null | Promise<Answer | null>

export interface AnswerServer {
  readonly port: number
  stop(): Promise<void>
}

const NOT_FOUND: Answer = { status: 404, body: '' }

/** Rejects with the error of the listener if the port is in use. */
export async function serveAnswers(at: { host: string; port: number }, route: Route): Promise<AnswerServer> {
  const server = createServer((request, response) => {
    const finish = ({ status, body, contentType }: Answer) => {
      const isText = typeof body === 'string'
      response.writeHead(status, { 'content-type': contentType ?? (isText ? 'text/plain' : 'application/json') })
      response.end(isText ? body : `${JSON.stringify(body)}\n`)
    }
    const answer = async () => (await route(request)) ?? NOT_FOUND
    answer().then(finish, (error: unknown) => finish({ status: 500, body: String(error) }))
  })
  // A scraper keeps its connection open, which must not keep the process alive.
  server.unref()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(at.port, at.host, () => {
      server.off('error', reject)
      resolve()
    })
  })
  return {
    port: (server.address() as AddressInfo).port,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/**
 * The answers to `/healthz` and `/readyz`; null for every other path.
 * @param details more fields for the body of `/readyz`.
 */
export function healthAnswer(
  path: string | undefined,
  isReady: () => boolean,
  details: () => object = () => ({}),
): Answer | null {
  if (path === '/healthz') return { status: 200, body: { status: 'ok' } }
  if (path !== '/readyz') return null
  const [status, text] = isReady() ? [200, 'ready'] : [503, 'not ready']
  return { status, body: { status: text, ...details() } }
}
