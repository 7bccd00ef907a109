/** The simulated network between devices and workers: the listening workers, and the links of each worker. */
import type { Dial } from '../../src/device/connection/dial.js'
import type { SocketHandlers, Sockets } from '../../src/transport/socket/socket.js'
import type { SimClient } from './client.js'
import type { Host } from './host.js'
import { Link, type LinkWorld } from './link.js'
import { between } from './random.js'

const REFUSED = 1006
const PORT = 7700

export class SimNet {
  private readonly listening: SimSockets[] = []

  constructor(readonly world: LinkWorld) {}

  socketsOf(process: SimClient): SimSockets {
    return new SimSockets(this, process)
  }

  /** Dials a port that all workers share, as with SO_REUSEPORT: each connection goes to a random listening worker. */
  dialOf(host: Host, address: string, onLink: (link: Link) => void): Dial {
    return (_url, events) => {
      const { random, latencyMs } = this.world
      const worker = this.listening[between(random, [0, this.listening.length - 1])]
      if (!worker) {
        host.clock.after(between(random, latencyMs), () => events.closed(REFUSED, 0, 'no worker listens'))
        return NO_SOCKET
      }
      const link = worker.connect(address, host, events)
      onLink(link)
      return {
        send: (bytes) => link.fromDevice(bytes),
        close: (code) => link.closeFromDevice(code),
        pause: () => link.pause(),
        resume: () => link.resume(),
      }
    }
  }

  add(sockets: SimSockets): void {
    this.listening.push(sockets)
  }

  remove(sockets: SimSockets): void {
    const at = this.listening.indexOf(sockets)
    if (at >= 0) this.listening.splice(at, 1)
  }
}

const NO_SOCKET = { send: () => {}, close: () => {}, pause: () => {}, resume: () => {} }

/** The sockets of one worker. */
export class SimSockets implements Sockets {
  readonly links = new Set<Link>()
  private handlers: SocketHandlers | null = null

  constructor(
    private readonly net: SimNet,
    private readonly process: SimClient,
  ) {}

  async listen(handlers: SocketHandlers): Promise<number> {
    this.handlers = handlers
    this.net.add(this)
    return PORT
  }

  stopListening(): void {
    this.net.remove(this)
  }

  async listenAgain(): Promise<void> {
    this.net.add(this)
  }

  publish(topic: string, bytesOf: () => Uint8Array): number {
    let count = 0
    for (const link of [...this.links]) if (link.joined.has(topic) && link.sendOrClose(bytesOf())) count++
    return count
  }

  close(): void {
    this.crash(false)
  }

  connect(address: string, host: Host, events: Parameters<Dial>[1]): Link {
    if (!this.handlers) throw new Error('the worker does not listen')
    const onEnd = (ended: Link) => void this.links.delete(ended)
    const link = new Link(this.net.world, address, host.clock, events, this.process.clock, this.handlers, onEnd)
    this.links.add(link)
    link.connect()
    return link
  }

  /** Ends all sockets, because the process crashed. */
  crash(silently: boolean): void {
    this.stopListening()
    for (const link of [...this.links]) link.workerDied(silently)
  }
}
