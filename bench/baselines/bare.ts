/** The baseline servers that are child processes of bench: bare uWebSockets.js, and a server on the `ws` package. */
import { v8Flags } from '../../src/cli/v8-flags.js'
import { Generators, type GeneratorsOptions } from '../generator/generators.js'
import { Child } from '../generator/rpc.js'
import type { Preload } from '../measure/preload.js'
import type { Bench } from '../scenario.js'
import { freePort } from '../system/ports.js'
import type { BaselineMethods, Listen } from './baseline-child.js'

export interface BaselineServer {
  pid: number
  port: number
  /** Starts the numbers of connections from 0 again. */
  forget(): Promise<void>
}

/** Most connections of one server process, because of its limit of open files. */
export const BARE_CONNECTIONS_MAX = 18_000

export type BaselineKind = 'uws' | 'ws'

/** Bare uWebSockets.js runs with the V8 flags of a worker, so that the savings of these flags do not count as ours. */
export async function startBaseline(
  bench: Bench,
  kind: BaselineKind,
  options: Omit<Listen, 'port'>,
  preload?: Preload,
): Promise<BaselineServer> {
  const file = new URL(`./${kind}-child.js`, import.meta.url)
  const flags = [...(kind === 'uws' ? v8Flags('worker') : []), ...(preload?.nodeOptions ?? [])]
  const child = Child.start<BaselineMethods>(`${kind} server`, file, flags, preload?.environment)
  bench.defer(() => child.stop())
  const port = await freePort()
  await child.call('listen', { port, ...options })
  return { pid: child.pid, port, forget: async () => child.call('forget', undefined as never) }
}

export const startBare = (bench: Bench, options: Omit<Listen, 'port'>, preload?: Preload) =>
  startBaseline(bench, 'uws', options, preload)

/** Devices of a bare server, up to its limit. They send WebSocket pings as often as our devices send keepalives. */
export async function bareDevices(
  bench: Bench,
  server: { port: number },
  options: Pick<GeneratorsOptions, 'connections' | 'processes' | 'keepaliveMs'>,
): Promise<Generators> {
  const target = { host: '127.0.0.1', port: server.port, path: '/' }
  const dialect = { kind: 'bare', run: 'bare0000' } as const
  const connections = Math.min(options.connections, BARE_CONNECTIONS_MAX)
  const generators = await Generators.start({ target, dialect, ...options, connections }, bench.progress)
  bench.defer(() => generators.stop())
  return generators
}
