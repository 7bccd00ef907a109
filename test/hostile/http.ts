/** Malformed HTTP requests, for the device port before its upgrade and for the public API of the core. */
import { below, noise, pick, type Random } from './chance.js'
import { deepJson } from './json.js'
import { upgradeRequest } from './websocket.js'

type Make = (random: Random) => Uint8Array | string

const lines = (...all: string[]) => `${all.join('\r\n')}\r\n\r\n`
const many = (count: number, make: (i: number) => string) => Array.from({ length: count }, (_, i) => make(i))

/** For any HTTP port. None of these requests may be answered with 2xx. */
const garbage: Record<string, Make> = {
  noise: (r) => noise(r, 1 + below(r, 2_000)),
  'zero bytes': () => new Uint8Array(3_000),
  'a TLS hello': (r) => Uint8Array.of(0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, ...noise(r, 500)),
  'an HTTP/2 preface': () => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0',
  'no version': () => 'GET /v1/nothing\r\n\r\n',
  'HTTP/9.9': () => lines('GET /v1/nothing HTTP/9.9', 'host: x'),
  'a method of noise': (r) => lines(`${Buffer.from(noise(r, 20)).toString('latin1')} / HTTP/1.1`, 'host: x'),
  'a long path': () => lines(`GET /${'a'.repeat(70_000)} HTTP/1.1`, 'host: x'),
  'a path of escapes': () => lines(`GET /${'%2e%2e%2f'.repeat(50)}%00%ff HTTP/1.1`, 'host: x'),
  'a long header': () => lines('GET /v1/nothing HTTP/1.1', 'host: x', `a: ${'b'.repeat(70_000)}`),
  'many headers': () => lines('GET /v1/nothing HTTP/1.1', 'host: x', ...many(5_000, (i) => `h${i}: ${i}`)),
  'a header without colon': () => lines('GET /v1/nothing HTTP/1.1', 'host: x', 'nothing here'),
  'a header with zero bytes': () => lines('GET /v1/nothing HTTP/1.1', 'host: x', 'a\0b: c\0d'),
  'folded headers': () => 'GET /v1/nothing HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n',
  'line feeds only': () => 'GET /v1/nothing HTTP/1.1\nhost: x\n\n',
  'a negative length': () => lines('POST /v1/nothing HTTP/1.1', 'host: x', 'content-length: -1'),
  'a length beyond all': () => lines('POST /v1/nothing HTTP/1.1', 'host: x', 'content-length: 99999999999999999999'),
  'two lengths': () => `${lines('POST /v1/nothing HTTP/1.1', 'host: x', 'content-length: 1', 'content-length: 9')}abc`,
  'length and chunks': () =>
    `${lines('POST /v1/nothing HTTP/1.1', 'host: x', 'content-length: 4', 'transfer-encoding: chunked')}0\r\n\r\nGET / HTTP/1.1\r\n\r\n`,
  'a chunk beyond all': () =>
    `${lines('POST /v1/nothing HTTP/1.1', 'host: x', 'transfer-encoding: chunked')}ffffffffffffffff\r\nabc`,
  'chunks of noise': (r) =>
    Buffer.concat([
      Buffer.from(lines('POST /v1/nothing HTTP/1.1', 'host: x', 'transfer-encoding: chunked')),
      noise(r, 300),
    ]),
  'requests in a row': () => lines('GET /v1/nothing HTTP/1.1', 'host: x').repeat(100),
  'nothing at all': () => '',
}

const PROXY_SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]
const proxy2 = (versionCommand: number, family: number, declared: number, rest: ArrayLike<number>) =>
  Uint8Array.of(...PROXY_SIGNATURE, versionCommand, family, declared >> 8, declared & 255, ...Array.from(rest))
/** 203.0.113.9:1 to 203.0.113.10:2. */
const IPV4 = [203, 0, 113, 9, 203, 0, 113, 10, 0, 1, 0, 2]

/** PROXY headers that claim another source address. An upgrade follows each header. */
export const proxyHeaders: Record<string, Make> = {
  'v1, IPv4': () => 'PROXY TCP4 203.0.113.9 203.0.113.10 1 2\r\n',
  'v1, IPv6': () => 'PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n',
  'v1, unknown': () => 'PROXY UNKNOWN\r\n',
  'v1, noise': (r) => Buffer.concat([Buffer.from('PROXY '), noise(r, 200)]),
  'v2, IPv4': () => proxy2(0x21, 0x11, 12, IPV4),
  'v2, IPv6': (r) => proxy2(0x21, 0x21, 36, noise(r, 36)),
  'v2, local': () => proxy2(0x20, 0, 0, []),
  'v2, unix': (r) => proxy2(0x21, 0x31, 216, noise(r, 216)),
  'v2, more declared than sent': () => proxy2(0x21, 0x11, 65_535, IPV4),
  'v2, less declared than needed': () => proxy2(0x21, 0x11, 1, IPV4),
  'v2, nothing declared': () => proxy2(0x21, 0x11, 0, []),
  'v2, another version': () => proxy2(0x71, 0x11, 12, IPV4),
  'v2, with TLVs of noise': (r) => proxy2(0x21, 0x11, 112, [...IPV4, ...noise(r, 100)]),
  'v2, twice': () => Buffer.concat([proxy2(0x21, 0x11, 12, IPV4), proxy2(0x21, 0x21, 36, new Uint8Array(36))]),
  'v2, cut off': (r) => proxy2(0x21, 0x11, 12, IPV4).subarray(0, 1 + below(r, 27)),
}

/** For the device port. None of these requests may be upgraded. */
const upgrades: Record<string, Make> = {
  'another path': (r) => upgradeRequest(r, '/v1/device/../admin'),
  'no key': () => lines('GET /v1/nothing HTTP/1.1', 'host: x', 'upgrade: websocket', 'connection: upgrade'),
  'half a request': (r) => upgradeRequest(r).subarray(0, 1 + below(r, 60)),
  'a POST': (r) => `POST${upgradeRequest(r).toString('latin1').slice(3)}`,
}

/** For the public API. `authorization` is valid, because these requests must fail with a valid token too. */
function requests(authorization: string, project: string): Record<string, Make> {
  const api = `/push/public/api/v1/projects/${project}/messages`
  const post = (path: string, body: string | Uint8Array, ...headers: string[]) =>
    Buffer.concat([
      Buffer.from(lines(`POST ${path} HTTP/1.1`, 'host: x', `content-length: ${Buffer.byteLength(body)}`, ...headers)),
      Buffer.from(body),
    ])
  const asSender = (body: string | Uint8Array) =>
    post(api, body, 'content-type: application/json', `authorization: ${authorization}`)
  const message = (change: object) =>
    asSender(
      JSON.stringify({ type: 'device', target: 'x', ttl: '1m', notification: { title: 't', message: 'm' }, ...change }),
    )
  const withToken = (token: string) => post(api, '{}', 'content-type: application/json', `authorization: ${token}`)
  return {
    'no token': () => post(api, '{}', 'content-type: application/json'),
    'a token of noise': (r) => withToken(`Bearer ${Buffer.from(noise(r, 60)).toString('base64url')}`),
    'alg none': () =>
      withToken(
        `Bearer eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.${Buffer.from(JSON.stringify({ project })).toString('base64url')}.`,
      ),
    'half of a good token': () => withToken(authorization.slice(0, -20)),
    'another scheme': () => withToken(authorization.replace('Bearer', 'Basic')),
    'a long token': () => withToken(`Bearer ${'x'.repeat(12_000)}`),
    "another's project": () => post(api.replace(project, 'somebody-else'), '{}', `authorization: ${authorization}`),
    'a project of escapes': () => post(api.replace(project, '%2e%2e%2f%00'), '{}', `authorization: ${authorization}`),
    'no JSON': (r) => asSender(noise(r, 200)),
    'half JSON': () => asSender('{"type":"device","target":'),
    'deep JSON': () => asSender(deepJson(20_000)),
    'a body too large': () => asSender(`"${'x'.repeat(600_000)}"`),
    'a target of noise': (r) => message({ target: Buffer.from(noise(r, 80)).toString('base64url') }),
    'a target of wrong type': (r) =>
      message({ target: pick(r, [null, 7, {}, [], [[]], '', '*', '>', 'x'.repeat(5_000)]) }),
    'a prototype': () =>
      asSender('{"__proto__":{"type":"device"},"constructor":{"prototype":{}},"type":"__proto__","target":"x"}'),
    'too many targets': () => message({ type: 'devices', target: many(5_000, (i) => `t${i}`) }),
    'deep data': () => message({ notification: { title: 't', message: 'm', data: JSON.parse(deepJson(500)) } }),
    'a ttl of noise': (r) => message({ ttl: pick(r, ['-1m', '1e99h', '9'.repeat(400), {}, null, '1m1m', '٣m']) }),
    'an enrolment key of noise': (r) =>
      post(
        '/device/v1/enrol',
        JSON.stringify({ enrolmentKey: `bek_${Buffer.from(noise(r, 30)).toString('base64url')}` }),
      ),
    'enrolment without a key': () => post('/device/v1/enrol', '{"enrolmentKey":{"$gt":""}}'),
    'a message of noise': (r) =>
      lines(
        `GET ${api}/${encodeURIComponent(Buffer.from(noise(r, 20)).toString('latin1'))} HTTP/1.1`,
        'host: x',
        `authorization: ${authorization}`,
      ),
    'a message that is not': (r) =>
      lines(`DELETE ${api}/${below(r, 2 ** 31)} HTTP/1.1`, 'host: x', `authorization: ${authorization}`),
  }
}

export interface Shot {
  name: string
  bytes: Uint8Array
}

function shot(random: Random, from: Record<string, Make>): Shot {
  const [name, make] = pick(random, Object.entries(from))
  const bytes = make(random)
  return { name, bytes: typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes }
}

const forDevicePort = { ...garbage, ...upgrades }

export const devicePortShot = (random: Random): Shot => shot(random, forDevicePort)

export const proxyShot = (random: Random): Shot => {
  const { name, bytes } = shot(random, proxyHeaders)
  return { name, bytes: Buffer.concat([bytes, upgradeRequest(random)]) }
}

export function gatewayShots(authorization: string, project: string): (random: Random) => Shot {
  const all = { ...garbage, ...requests(authorization, project) }
  return (random) => shot(random, all)
}
