/**
 * Status readers, in a thread of their own so that they do not delay the load that is measured beside them. All readers ask
 * at once, and each repeats a refused read after the time in Retry-After. A worker thread of `readers()` below.
 */
import { Agent, type IncomingMessage, request } from 'node:http'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

export interface ReadersOptions {
  port: number
  token: string
  /** Paths of messages; each reader takes the next one. */
  paths: readonly string[]
  count: number
}

export interface ReadersResult {
  answered: number
  /** Answers `overloaded`. */
  refused: number
  /** Other answers and broken connections. */
  failed: number
  /** Targets in all answers. */
  targets: number
  /** From the first request to the last answer. */
  seconds: number
}

/** Not the address of the measured load: the service shares its room by addresses. */
const OWN_ADDRESS = '127.0.0.2'

export interface Readers {
  /** Resolves when all reads are answered, or with the counts so far after stop(). */
  result: Promise<ReadersResult>
  stop(): void
}

export function startReaders(options: ReadersOptions): Readers {
  const worker = new Worker(new URL(import.meta.url), { workerData: options })
  const result = new Promise<ReadersResult>((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  return { result: result.finally(() => worker.terminate()), stop: () => worker.postMessage('stop') }
}

async function readAll({ port, token, paths, count }: ReadersOptions): Promise<ReadersResult> {
  const agent = new Agent({ keepAlive: true, maxSockets: count })
  const counts = { answered: 0, refused: 0, failed: 0, targets: 0 }
  const startedMs = performance.now()
  const seconds = () => (performance.now() - startedMs) / 1000
  const stopped = new Promise<void>((resolve) => parentPort?.once('message', () => resolve()))
  const read = async (index: number) => {
    const path = paths[index % paths.length] ?? ''
    for (;;) {
      const answer = await ask({ port, path, token, agent }).catch(() => null)
      if (answer?.status === 200) {
        counts.answered++
        counts.targets += (JSON.parse(answer.text) as { target: unknown[] }).target.length
        return
      }
      if (answer?.status === 503) counts.refused++
      else counts.failed++
      await new Promise((resolve) => setTimeout(resolve, answer?.retryAfterMs ?? 1_000))
    }
  }
  const all = Promise.all(Array.from({ length: count }, (_, index) => read(index)))
  await Promise.race([all, stopped])
  return { ...counts, seconds: seconds() }
}

interface Asked {
  port: number
  path: string
  token: string
  agent: Agent
}

function ask({ port, path, token, agent }: Asked): Promise<{ status: number; text: string; retryAfterMs: number }> {
  const headers = { authorization: `Bearer ${token}` }
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', localAddress: OWN_ADDRESS, port, path, agent, headers }
    const call = request(options, (response: IncomingMessage) => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part
      })
      response.once('end', () => {
        const retryAfterMs = 1_000 * (Number(response.headers['retry-after']) || 1)
        resolve({ status: response.statusCode ?? 0, text, retryAfterMs })
      })
      response.once('error', reject)
    })
    call.once('error', reject)
    call.end()
  })
}

if (!isMainThread && parentPort) parentPort.postMessage(await readAll(workerData as ReadersOptions))
