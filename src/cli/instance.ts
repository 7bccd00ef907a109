import { setTimeout as sleep } from 'node:timers/promises'
import { Command } from 'commander'
import type { Config } from '../config/config.js'
import { authorityOf } from '../core/api/public-url.js'
import type { InstanceStatus } from '../transport/supervisor/instance-status.js'
import { CommandError, loadConfig } from './context.js'

/** `borealis drain`, `rolling-restart`, `reload`, `status`: talk to the admin port of the transport instance of this configuration. */

const ANSWER_MS_MAX = 10_000
const POLL_MS = 500

export const statusCommand = new Command('status')
  .description('show the transport instance of this machine, from its admin port, as JSON')
  .action(async (_options, command: Command) => {
    print(JSON.stringify(await new AdminPort(loadConfig(command)).status(), null, 2))
  })

export const drainCommand = new Command('drain')
  .description('have the transport instance of this machine ask its devices to leave, then end')
  .option('--no-wait', 'return when it has begun')
  .action(async ({ wait }: { wait: boolean }, command: Command) => {
    const admin = new AdminPort(loadConfig(command))
    await admin.call('POST', '/drain')
    print('draining')
    while (wait) {
      await sleep(POLL_MS)
      // It listens to the end: no answer is the end.
      const status = await admin.status().catch(() => null)
      if (status === null) break
      print(`${devicesOf(status)} devices still to go`)
    }
    if (wait) print('drained')
  })

export const rollingRestartCommand = new Command('rolling-restart')
  .description('have the transport instance of this machine replace its workers, one after the other')
  .option('--no-wait', 'return when it has begun')
  .action(async ({ wait }: { wait: boolean }, command: Command) => {
    const admin = new AdminPort(loadConfig(command))
    await admin.call('POST', '/restart')
    let told = -1
    while (wait) {
      const { restart } = await admin.status()
      if (restart === null) throw new CommandError('the instance was started anew meanwhile')
      if (restart.done !== told) print(`${restart.done} of ${restart.total} workers replaced`)
      told = restart.done
      if (restart.state === 'failed') throw new CommandError(`the restart was given up: ${restart.reason}`)
      if (restart.state === 'done') return
      await sleep(POLL_MS)
    }
  })

export const reloadCommand = new Command('reload')
  .description('have the transport instance of this machine read its keys and certificate anew')
  .action(async (_options, command: Command) => {
    await new AdminPort(loadConfig(command)).call('POST', '/reload')
    print('keys and certificate are read anew')
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
