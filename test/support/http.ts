/** Requests to the public API: injected into the gateway, or written to a socket as bytes. */
import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import type { Test } from 'tap'
import { type ErrorCode, Errors } from '../../protocol/errors.js'
import { encodeRegistrationId } from '../../src/core/domain/registration-id.js'
import type { TestApi } from './api.js'
import { undocumented } from './documented.js'

export const API = '/push/public/api/v1/projects'
export const device = 'dev_0123456789abcdefghij'

export interface Answer {
  statusCode: number
  headers: Record<string, unknown>
  // biome-ignore lint/suspicious/noExplicitAny: bodies are compared, not trusted
  body: any
}

export interface Ask {
  method?: 'GET' | 'POST' | 'PUT' | 'DELETE' | 'HEAD'
  url: string
  body?: unknown
  raw?: string | Buffer
  token?: string | null
  headers?: Record<string, string>
}

/** Sends a request to the gateway. Throws if the answer differs from the OpenAPI document. */
export async function ask(
  api: TestApi,
  { method, url, body, raw, token = api.token, headers = {} }: Ask,
): Promise<Answer> {
  const payload = raw ?? (body === undefined ? undefined : JSON.stringify(body))
  const response = await api.gateway.app.inject({
    method: method ?? (payload === undefined ? 'GET' : 'POST'),
    url,
    headers: {
      ...(payload === undefined ? {} : { 'content-type': 'application/json' }),
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...headers,
    },
    ...(payload === undefined ? {} : { payload }),
  })
  const answer = {
    statusCode: response.statusCode,
    headers: response.headers,
    body: response.body && JSON.parse(response.body),
  }
  const asked = { method: method ?? (payload === undefined ? 'GET' : 'POST'), url }
  const problem = undocumented(api, asked, answer)
  if (problem !== null) throw new Error(`the answer differs from the OpenAPI document: ${problem}`)
  return answer
}

/** Asserts that an answer is the error `code`, in the form that docs/send/errors.md describes. */
export function isError(t: Test, answer: Answer, code: ErrorCode, name: string = code): void {
  t.equal(answer.statusCode, Errors[code].http, `${name}: status`)
  t.same(Object.keys(answer.body), ['error'], `${name}: the body has only an error`)
  t.same(Object.keys(answer.body.error), ['code', 'message', 'details'], `${name}: the fields of the error`)
  t.equal(answer.body.error.code, code, `${name}: code`)
}

export const registrationIdOf = (api: TestApi, fields: object = {}) =>
  encodeRegistrationId(api.keyring.macKey('registration'), {
    project: api.project,
    application: api.application,
    device,
    registration: 1,
    ...fields,
  })

export const messagesOf = (api: TestApi) => `${API}/${api.project}/messages`

export function get(url: string): Promise<IncomingMessage> {
  return new Promise((resolve) => {
    const request = httpRequest(`${url}/healthz`, { agent: false }, (response) => {
      response.resume()
      resolve(response)
    })
    request.on('error', () => resolve({ statusCode: 0 } as IncomingMessage))
    request.end()
  })
}

export async function connected(port: number, localAddress = '127.0.0.1'): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', localAddress })
  socket.on('error', () => socket.destroy())
  await once(socket, 'connect')
  return socket
}

/** Writes a request as it is, so that no client library corrects it. Resolves with the whole answer. */
export async function overSocket(
  url: string,
  method: string,
  path: string,
  headers: string[],
  body = '',
): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  const lines = [`${method} ${path} HTTP/1.1`, 'host: x', 'connection: close', ...headers]
  if (body) lines.push('content-type: application/json', `content-length: ${Buffer.byteLength(body)}`)
  socket.write(`${lines.join('\r\n')}\r\n\r\n${body}`)
  return everything(socket)
}

export async function everything(socket: Socket): Promise<string> {
  let text = ''
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  // A server that has answered may reset the connection instead of reading the rest of the request.
  socket.on('error', () => socket.destroy())
  await new Promise((resolve) => socket.once('close', resolve))
  return text
}
