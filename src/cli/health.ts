import { once } from 'node:events'
import { connect } from 'node:net'
import { Command, Option } from 'commander'
import type { Config } from '../config/config.js'
import { authorityOf, reachableHost } from '../core/api/public-url.js'
import { CommandError, loadConfig } from './context.js'

const timeoutMs = 2_500

/** `borealis health`: for container engines and supervisors; exit code 0 when the part on this machine is well. */
export const healthCommand = new Command('health')
  .description('ask the core or transport of this machine whether it is well (exit code 0: yes)')
  .addOption(
    new Option('--part <part>', 'which to ask; without it, whichever answers').choices(Object.keys(probesByPart())),
  )
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

/** That it takes connections is what a stranger can see of a transport; its workers restart each other's crashes. */
async function probeTransport({ transport }: Config): Promise<string> {
  const { port } = transport
  const address = authorityOf(transport.host, port)
  const socket = connect({ host: reachableHost(transport.host), port, timeout: timeoutMs })
  socket.once('timeout', () => socket.destroy(new Error('no answer')))
  try {
    await once(socket, 'connect')
    return `transport: ${address} takes connections`
  } catch (error) {
    throw new Error(`${address} takes no connections`, { cause: error })
  } finally {
    socket.destroy()
  }
}
