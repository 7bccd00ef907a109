/** NATS over WebSocket. Each device subscribes to a subject of its own and to one for all, and answers to reply subjects. */
import type { Dialect, DialectHost } from '../dialect.js'
import type { Peer } from '../peer.js'
import { clientFrame } from '../websocket.js'
import { tallyFrame, withTail } from './frame-stamp.js'

export const subjectOf = (index: number) => `d.${index}`
export const SUBJECT_ALL = 'all'

const CRLF = '\r\n'
const PING = clientFrame(Buffer.from(`PING${CRLF}`))

export class NatsDialect implements Dialect {
  readonly subprotocol = ''

  constructor(private readonly host: DialectHost) {}

  opened(peer: Peer): void {
    const options = JSON.stringify({ verbose: false, pedantic: false, lang: 'bench', version: '1', protocol: 1 })
    const lines = [`CONNECT ${options}`, `SUB ${subjectOf(peer.index)} 1`, `SUB ${SUBJECT_ALL} 2`, 'PING', '']
    peer.send(clientFrame(Buffer.from(lines.join(CRLF))))
  }

  message(peer: Peer, bytes: Buffer, start: number, end: number): void {
    const whole = withTail(peer.tail, bytes, start, end)
    peer.tail = null
    let at = 0
    for (let next = this.#line(peer, whole, at); next > at; next = this.#line(peer, whole, at)) at = next
    if (at < whole.length) peer.tail = Buffer.from(whole.subarray(at))
  }

  keepalive(peer: Peer): void {
    peer.send(PING)
  }

  leave(): void {}

  /** Handles one line with its payload. Returns the offset after it, or `at` if it is incomplete. */
  #line(peer: Peer, bytes: Buffer, at: number): number {
    const lineEnd = bytes.indexOf(CRLF, at)
    if (lineEnd < 0) return at
    const line = bytes.toString('latin1', at, lineEnd)
    const next = lineEnd + CRLF.length
    if (line.startsWith('MSG ')) return this.#msg(peer, bytes, at, next, line.split(' '))
    if (line === 'PONG') {
      this.host.tally.pongs++
      this.host.ready(peer)
    } else if (line === 'PING') peer.send(clientFrame(Buffer.from(`PONG${CRLF}`)))
    else if (line.startsWith('-ERR')) this.host.tally.faults++
    return next
  }

  /** `MSG subject sid [reply] size` */
  #msg(peer: Peer, bytes: Buffer, at: number, payloadAt: number, words: readonly string[]): number {
    const payloadEnd = payloadAt + Number(words.at(-1))
    if (payloadEnd + CRLF.length > bytes.length) return at
    const reply = words.length === 5 ? words[3] : undefined
    tallyFrame(this.host, bytes, payloadAt, payloadEnd)
    if (reply !== undefined) peer.send(clientFrame(Buffer.from(`PUB ${reply} 0${CRLF}${CRLF}`)))
    return payloadEnd + CRLF.length
  }
}
