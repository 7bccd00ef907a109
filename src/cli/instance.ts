/**
 * `borealis drain`, `rolling-restart`, `reload` and `status`: commands to a running transport instance, through its admin
 * port.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Command } from 'commander'
import type { Config } from '../config/config.js'
import { authorityOf } from '../core/api/public-url.js'
import type { StreamFill } from '../store/fills.js'
import type { InstanceStatus } from '../transport/supervisor/instance-status.js'
import { CommandError, loadConfig } from './context.js'

const ANSWER_MS_MAX = 10_000
const POLL_MS = 500

export const statusCommand = new Command('status')
  .description(
    'show the state of the transport instance on this machine and, if a core serves metrics here, how full the store is, as JSON',
  )
  .action(async (_options, command: Command) => {
    const config = loadConfig(command)
    const store = await storeOf(config)
    // Without a core here, the answer is the instance's, or the reason why there is none.
    if (store === null) return print(JSON.stringify(await new AdminPort(config).status(), null, 2))
    const instance = config.admin.port === 0 ? null : await new AdminPort(config).status().catch(() => null)
    print(JSON.stringify({ ...instance, store }, null, 2))
  })

/** The streams of the store, fullest first, as a core on this machine sees them; null if there is none. */
async function storeOf({ metrics: { host, port } }: Config): Promise<readonly StreamFill[] | null> {
  if (port === 0) return null
  const url = `http://${authorityOf(host, port)}/readyz`
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(ANSWER_MS_MAX) })
    const { store = null } = (await response.json()) as { store?: StreamFill[] }
    return store
  } catch {
    return null // no core serves metrics there
  }
}

export const drainCommand = new Command('drain')
  .description('make the transport instance on this machine ask its devices to leave, and then end')
  .option('--no-wait', 'return as soon as the drain has begun')
  .action(async ({ wait }: { wait: boolean }, command: Command) => {
    const admin = new AdminPort(loadConfig(command))
    await admin.call('POST', '/drain')
    print('draining')
    while (wait) {
      await sleep(POLL_MS)
      // The admin port listens to the end: no answer means that the instance has ended.
      const status = await admin.status().catch(() => null)
      if (status === null) break
      print(`${devicesOf(status)} devices still connected`)
    }
    if (wait) print('drained')
  })

export const rollingRestartCommand = new Command('rolling-restart')
  .description('make the transport instance on this machine replace its workers, one after the other')
  .option('--no-wait', 'return as soon as the restart has begun')
  .action(async ({ wait }: { wait: boolean }, command: Command) => {
    const admin = new AdminPort(loadConfig(command))
    await admin.call('POST', '/restart')
    let told = -1
    while (wait) {
      const { restart } = await admin.status()
      if (restart === null) throw new CommandError('the instance was restarted in the meantime')
      if (restart.done !== told) print(`${restart.done} of ${restart.total} workers replaced`)
      told = restart.done
      if (restart.state === 'failed') throw new CommandError(`the rolling restart failed: ${restart.reason}`)
      if (restart.state === 'done') return
      await sleep(POLL_MS)
    }
  })

export const reloadCommand = new Command('reload')
  .description('make the transport instance on this machine read its keys and certificate again')
  .action(async (_options, command: Command) => {
    await new AdminPort(loadConfig(command)).call('POST', '/reload')
    print('keys and certificate were read again')
  })

class AdminPort {
  private readonly base: string
  private readonly headers: Record<string, string>

  constructor({ admin: { host, port, token } }: Config) {
    if (port === 0) throw new CommandError('this configuration has no admin port: set admin.port (BOREALIS_ADMIN_PORT)')
    this.base = `http://${authorityOf(host, port)}`
    this.headers = token === '' ? {} : { authorization: `Bearer ${token}` }
  }

  async status(): Promise<InstanceStatus> {
    return (await this.call('GET', '/status')) as InstanceStatus
  }

  async call(method: 'GET' | 'POST', path: string): Promise<unknown> {
    const url = `${this.base}${path}`
    const { headers } = this
    const request = fetch(url, { method, headers, signal: AbortSignal.timeout(ANSWER_MS_MAX) })
    const response = await request.catch((cause: Error) => {
      throw new CommandError(`the admin port ${url} does not answer`, 1, { cause })
    })
    const text = await response.text()
    if (response.ok) return JSON.parse(text)
    throw new CommandError(`the admin port answers ${response.status}: ${text.trim()}`)
  }
}

const devicesOf = ({ workers }: InstanceStatus) => workers.reduce((sum, { levels }) => sum + (levels?.sessions ?? 0), 0)

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}
