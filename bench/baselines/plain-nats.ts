/** A plain nats-server for the baselines, without JetStream and users. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { endWithParent } from '../../src/nats/server/end-with-parent.js'
import { findNatsServer } from '../../src/nats/server/server-process.js'
import type { Bench } from '../scenario.js'
import { BenchError } from '../scenario.js'
import { freePort } from '../system/ports.js'

export interface PlainNats {
  url: string
  pid: number
  /** 0: the server does not accept WebSockets. */
  webSocketPort: number
}

export async function startPlainNats(bench: Bench, { webSocket = false } = {}): Promise<PlainNats> {
  const port = await freePort()
  const webSocketPort = webSocket ? await freePort() : 0
  const file = join(bench.folder, `nats-${port}.json`)
  const config = {
    host: '127.0.0.1',
    port,
    max_connections: 65_000,
    ...(webSocket && { websocket: { host: '127.0.0.1', port: webSocketPort, no_tls: true } }),
  }
  await writeFile(file, JSON.stringify(config))
  const child = spawn(findNatsServer(), ['-c', file], { stdio: ['ignore', 'ignore', 'pipe'], detached: true })
  endWithParent(child)
  bench.defer(() => endProcess(child))
  await untilLine(child, 'nats-server', (line) => line.endsWith('Server is ready'))
  return { url: `nats://127.0.0.1:${port}`, pid: child.pid ?? 0, webSocketPort }
}

const READY_MS_MAX = 15_000
const LINES_KEPT = 10

/** Resolves at the first line of standard error that `isReady` accepts. Rejects if the process ends or takes too long. */
export function untilLine(child: ChildProcess, name: string, isReady: (line: string) => boolean): Promise<void> {
  const { stderr } = child
  if (!stderr) throw new TypeError(`${name} has no standard error to read`)
  const lines: string[] = []
  return new Promise((resolve, reject) => {
    const fail = (why: string) => {
      clearTimeout(timer)
      reject(new BenchError(`${name} ${why}${lines.map((line) => `\n  ${line}`).join('')}`))
    }
    const timer = setTimeout(() => fail(`was not ready in ${READY_MS_MAX} ms`), READY_MS_MAX)
    child.once('error', (error) => fail(`could not be started: ${error.message}`))
    child.once('exit', (code) => fail(`ended with code ${code}`))
    // Reads on after that line: a server whose pipe is full would stop.
    createInterface({ input: stderr }).on('line', (line) => {
      lines.push(line)
      if (lines.length > LINES_KEPT) lines.shift()
      if (!isReady(line)) return
      clearTimeout(timer)
      resolve()
    })
  })
}

const END_MS_MAX = 5_000

export async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const exit = once(child, 'exit')
  child.kill('SIGTERM')
  const force = setTimeout(() => child.kill('SIGKILL'), END_MS_MAX)
  await exit
  clearTimeout(force)
}
