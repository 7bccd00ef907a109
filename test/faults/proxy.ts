/**
 * A TCP proxy between two parts, whose line can be cut, delayed, stalled or made to lose everything, in one direction or
 * in both.
 *
 * A network that loses packets never leaves bytes out of a TCP stream. The ends see one of two effects: `stall` (the
 * bytes are retransmitted, and arrive late), or `swallow` (no byte arrives until one end gives up; the proxy resets the
 * connections when the fault ends).
 */

import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { reset } from '../../bench/generator/reset.js'

export type Way = 'there' | 'back' | 'both'

export type Line =
  | { mode: 'pass' }
  /** Resets all connections and refuses new ones. */
  | { mode: 'cut' }
  | { mode: 'delay'; ms: number; way: Way }
  | { mode: 'stall'; way: Way }
  | { mode: 'swallow'; way: Way }

interface Pair {
  near: Socket
  far: Socket
}

type Direction = Exclude<Way, 'both'>

export class LineProxy {
  readonly #pairs = new Set<Pair>()
  readonly #stalled = new Set<() => void>()
  #line: Line = { mode: 'pass' }

  private constructor(
    private readonly server: Server,
    readonly port: number,
    private readonly target: () => { host: string; port: number },
  ) {
    server.on('connection', (near) => this.#join(near))
  }

  /** Listens on a free port. `target` is called for each connection. */
  static async open(target: () => { host: string; port: number }): Promise<LineProxy> {
    const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    return new LineProxy(server, typeof address === 'object' && address ? address.port : 0, target)
  }

  set(line: Line): void {
    const before = this.#line
    this.#line = line
    // After lost bytes the two ends of a connection no longer agree on its stream.
    if (line.mode === 'cut' || before.mode === 'swallow') this.#reset()
    for (const release of this.#stalled) release()
    this.#stalled.clear()
  }

  async close(): Promise<void> {
    this.set({ mode: 'cut' })
    this.server.close()
    if (this.server.listening) await once(this.server, 'close')
  }

  #join(near: Socket): void {
    if (this.#line.mode === 'cut') {
      reset(near)
      return
    }
    const pair = { near, far: connect({ ...this.target(), allowHalfOpen: true }) }
    this.#pairs.add(pair)
    for (const socket of [pair.near, pair.far]) {
      socket.setNoDelay(true)
      // A reset of one end ends the other too.
      socket.on('error', () => this.#end(pair))
      socket.on('close', () => this.#end(pair))
    }
    this.#pipe(near, pair.far, 'there')
    this.#pipe(pair.far, near, 'back')
  }

  /** Keeps the order of bytes under every fault: each chunk waits for the one before it. */
  #pipe(from: Socket, to: Socket, direction: Direction): void {
    let last: Promise<unknown> = Promise.resolve()
    const inTurn = (act: () => void) => {
      const passage = this.#passage(direction)
      if (passage === 'lost') return
      last = Promise.all([last, passage]).then(act)
    }
    from.on('data', (chunk) => {
      inTurn(() => {
        if (to.destroyed) return
        if (!to.write(chunk)) {
          from.pause()
          to.once('drain', () => from.resume())
        }
      })
    })
    from.on('end', () => inTurn(() => to.end()))
  }

  #passage(direction: Direction): Promise<void> | 'lost' | null {
    const line = this.#line
    if (line.mode === 'pass' || line.mode === 'cut') return null
    if (line.way !== 'both' && line.way !== direction) return null
    if (line.mode === 'swallow') return 'lost'
    if (line.mode === 'delay') return new Promise((resolve) => setTimeout(resolve, line.ms))
    return new Promise((resolve) => this.#stalled.add(resolve))
  }

  #reset(): void {
    for (const pair of this.#pairs) {
      reset(pair.near)
      reset(pair.far)
    }
    this.#pairs.clear()
  }

  #end(pair: Pair): void {
    if (!this.#pairs.delete(pair)) return
    // While the line swallows or stalls, a close of one end does not reach the other.
    if (this.#line.mode === 'swallow' || this.#line.mode === 'stall') this.#pairs.add(pair)
    else {
      pair.near.destroy()
      pair.far.destroy()
    }
  }
}
