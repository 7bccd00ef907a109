/** Malicious or broken peers. Each attack continues until it is stopped, also after the server closes connections. */
import { connect, type Socket } from 'node:net'
import { encodeFrame } from '../../protocol/encode.js'
import { reset } from '../generator/reset.js'
import { clientFrame, upgradeRequest } from '../generator/websocket.js'

export interface Target {
  host: string
  port: number
  path: string
}

export const ATTACKS = ['half-open', 'no-hello', 'slow-drip', 'garbage', 'oversized', 'flood', 'churn'] as const
export type AttackName = (typeof ATTACKS)[number]

export interface Attack {
  /** Number of opened connections, and of those that the server ended. */
  readonly counts: { opened: number; ended: number; bytesSent: number }
  stop(): void
}

/** Attackers have their own address, so that limits for their address do not affect the well-behaved devices. */
const SOURCE = '127.0.200.1'
const TICK_MS = 20
const MESSAGES_A_TICK = 20
const OVERSIZED_BYTES = 20_000

/** @param connections number of connections that the attack keeps open. */
export function startAttack(name: AttackName, target: Target, connections: number): Attack {
  const counts = { opened: 0, ended: 0, bytesSent: 0 }
  const sockets = new Set<Attacker>()
  let stopped = false
  const open = () => {
    if (stopped) return
    counts.opened++
    const attacker = new Attacker(name, target, () => {
      sockets.delete(attacker)
      counts.ended++
      counts.bytesSent += attacker.socket.bytesWritten
    })
    sockets.add(attacker)
  }
  // Replaces connections that the server has closed.
  const timer = setInterval(() => {
    while (sockets.size < connections && !stopped) open()
    for (const attacker of sockets) attacker.tick()
  }, TICK_MS)
  return {
    counts,
    stop: () => {
      stopped = true
      clearInterval(timer)
      for (const { socket } of sockets) reset(socket)
    },
  }
}

const GARBAGE = clientFrame(Buffer.from(Array.from({ length: 64 }, (_, i) => (i * 37) & 255)))
const OVERSIZED = clientFrame(Buffer.alloc(OVERSIZED_BYTES, 0x7f))
const FLOOD = Buffer.concat(Array.from({ length: MESSAGES_A_TICK }, () => clientFrame(encodeFrame({ type: 'PING' }))))

class Attacker {
  readonly socket: Socket
  readonly #request: Buffer
  #dripped = 0
  #upgraded = false

  constructor(
    private readonly name: AttackName,
    target: Target,
    onEnd: () => void,
  ) {
    this.#request = upgradeRequest({ ...target, subprotocol: '' })
    this.socket = connect({ host: target.host, port: target.port, localAddress: SOURCE })
    this.socket.on('data', () => {
      this.#upgraded = true
    })
    // A reset counts as an end as well.
    this.socket.on('error', () => this.socket.destroy())
    this.socket.once('close', onEnd)
    this.socket.once('connect', () => {
      if (name !== 'half-open' && name !== 'slow-drip') this.socket.write(this.#request)
    })
  }

  tick(): void {
    if (this.socket.connecting || this.socket.destroyed) return
    switch (this.name) {
      case 'half-open':
      case 'no-hello':
        return
      case 'slow-drip':
        // One byte for each tick: the upgrade request alone takes seconds.
        if (this.#dripped < this.#request.length) {
          this.socket.write(this.#request.subarray(this.#dripped, ++this.#dripped))
        }
        return
      case 'garbage':
        if (this.#upgraded) this.socket.write(GARBAGE)
        return
      case 'oversized':
        if (this.#upgraded) this.socket.write(OVERSIZED)
        return
      case 'flood':
        if (this.#upgraded) this.socket.write(FLOOD)
        return
      case 'churn':
        if (this.#upgraded) reset(this.socket)
    }
  }
}
