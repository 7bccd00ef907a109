/** The webhook receiver of an app server: it verifies signatures, records events, and answers as the test sets it. */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import type { OutcomeEvent } from '../../src/core/outcomes/outcome-event.js'

export interface Receiver {
  readonly url: string
  readonly port: number
  /** The signature of a POST must match one of these, or the receiver answers 401. */
  secrets: string[]
  /** The events in the order of arrival, repeats included. */
  readonly events: OutcomeEvent[]
  /** All POSTs, also refused ones. Status 0: not answered yet, or never. */
  readonly posts: { id: string; path: string; status: number }[]
  answer: (response: ServerResponse) => void
  /** Resolves when the condition holds. It is checked after each answered POST. */
  until(condition: () => boolean): Promise<void>
  /** Stops listening and cuts open connections. start() listens on the same port again. */
  stop(): Promise<void>
  start(): Promise<void>
}

export async function startReceiver(t: Pick<Test, 'teardown'>): Promise<Receiver> {
  const waiting = new Set<() => void>()
  const server = createServer((request, response) => {
    receive(receiver, request, response).then(
      () => {
        for (const check of waiting) check()
      },
      // The sender closed the connection in the middle of the request.
      () => response.destroy(),
    )
  })
  const listen = async (port: number) => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  }
  const stop = async () => {
    if (!server.listening) return
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  }
  const port = await listen(0)
  t.teardown(stop)
  const receiver: Receiver = {
    ...{ url: `http://127.0.0.1:${port}/hook`, port, secrets: [], events: [], posts: [] },
    answer: (response) => response.writeHead(204).end(),
    until: (condition) =>
      new Promise((resolve) => {
        const check = () => {
          if (!condition()) return
          waiting.delete(check)
          resolve()
        }
        waiting.add(check)
        check()
      }),
    stop,
    start: async () => {
      await listen(port)
    },
  }
  return receiver
}

async function receive(receiver: Receiver, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  const body = Buffer.concat(chunks).toString()
  const { 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': signatures } = request.headers
  const isSigned = receiver.secrets.some((secret) => {
    const key = Buffer.from(secret.replace('whsec_', ''), 'base64')
    const expected = Buffer.from(`v1,${createHmac('sha256', key).update(`${id}.${at}.${body}`).digest('base64')}`)
    return String(signatures)
      .split(' ')
      .map((signature) => Buffer.from(signature))
      .some((signature) => signature.length === expected.length && timingSafeEqual(signature, expected))
  })
  const post = { id: String(id), path: request.url ?? '', status: 0 }
  receiver.posts.push(post)
  response.once('close', () => {
    post.status = response.writableEnded ? response.statusCode : 0
  })
  const done = once(response, 'close')
  if (!isSigned) response.writeHead(401).end()
  else {
    receiver.answer(response)
    await done
    if (post.status >= 200 && post.status < 300)
      receiver.events.push(...(JSON.parse(body) as { events: OutcomeEvent[] }).events)
  }
}
