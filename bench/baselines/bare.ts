/** The baseline server bare uWebSockets.js, as a scenario uses it. */
import { Generators } from '../generator/generators.js'
import { Child } from '../generator/rpc.js'
import type { Bench } from '../scenario.js'
import { freePort } from '../system/ports.js'
import type { BaselineMethods } from './uws-child.js'

export interface BareServer {
  pid: number
  port: number
  /** Connections are numbered from 0 again. */
  forget(): Promise<void>
}

export interface BareOptions {
  /** Null: no messages are fed. */
  natsUrl: string | null
  /** All connections subscribe to one topic. */
  topic: boolean
}

export async function startBare(bench: Bench, options: BareOptions): Promise<BareServer> {
  const child = Child.start<BaselineMethods>('bare uWebSockets.js', new URL('./uws-child.js', import.meta.url))
  bench.defer(() => child.stop())
  const port = await freePort()
  await child.call('listen', { port, ...options })
  return { pid: child.pid, port, forget: () => child.call('forget', undefined as never) }
}

/** Devices for it. They keep alive with WebSocket pings as often as ours with frames. */
export async function bareDevices(
  bench: Bench,
  server: { port: number },
  options: { connections: number; processes: number; keepaliveMs: number },
): Promise<Generators> {
  const target = { host: '127.0.0.1', port: server.port, path: '/' }
  const generators = await Generators.start(
    { target, dialect: { kind: 'bare', run: 'bare0000' }, ...options },
    bench.progress,
  )
  bench.defer(() => generators.stop())
  return generators
}
