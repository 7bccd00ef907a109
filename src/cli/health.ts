/** `borealis health`: asks the part on this machine whether it is healthy. For container engines and supervisors. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { Command, Option } from 'commander'
import type { Config } from '../config/config.js'
import { authorityOf, reachableHost } from '../core/api/public-url.js'
import { CommandError, loadConfig } from './context.js'

const timeoutMs = 2_500

export const healthCommand = new Command('health')
  .description('ask whether the core or transport on this machine is healthy (exit code 0: yes)')
  .addOption(new Option('--part <part>', 'part to ask; by default, either one').choices(Object.keys(probesByPart())))
  .action(async (options: { part?: string }, command: Command) => {
    const config = loadConfig(command)
    const probes = Object.entries(probesByPart()).filter(
      ([name]) => options.part === undefined || name === options.part,
    )
    const answers = await Promise.allSettled(probes.map(([, probe]) => probe(config)))
    const wells = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []))
    const reasons = answers.flatMap((answer) => (answer.status === 'rejected' ? [String(answer.reason.message)] : []))
    if (wells.length === 0) throw new CommandError(reasons.join('; '))
    process.stdout.write(`${wells.join('; ')}\n`)
  })

function probesByPart(): Record<'core' | 'transport', (config: Config) => Promise<string>> {
  return { core: probeCore, transport: probeTransport }
}

async function probeCore({ http }: Config): Promise<string> {
  const url = `http://${authorityOf(http.host, http.port)}/healthz`
  const answer = await fetch(url, { signal: AbortSignal.timeout(timeoutMs) }).catch((error: Error) => {
    throw new Error(`${url} does not answer`, { cause: error })
  })
  if (!answer.ok) throw new Error(`${url} answers ${answer.status}`)
  return `core: ${url} answers`
}

/** A transport is healthy if it accepts connections. Its supervisor takes care of crashed workers. */
async function probeTransport({ transport }: Config): Promise<string> {
  const { port } = transport
  const address = authorityOf(transport.host, port)
  const socket = connect({ host: reachableHost(transport.host), port, timeout: timeoutMs })
  socket.once('timeout', () => socket.destroy(new Error('no answer')))
  try {
    await once(socket, 'connect')
    return `transport: ${address} accepts connections`
  } catch (error) {
    throw new Error(`${address} accepts no connections`, { cause: error })
  } finally {
    socket.destroy()
  }
}
