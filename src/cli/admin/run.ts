/** How a command of `borealis admin` runs: connects, acts as whoever uses this machine, prints, and closes. */
import { userInfo } from 'node:os'
import type { Command } from 'commander'
import { CodedError } from '../../../protocol/errors.js'
import { systemClock } from '../../clock.js'
import type { Config } from '../../config/config.js'
import { Administration } from '../../core/tenants/administration.js'
import type { Actor } from '../../core/tenants/auth/roles.js'
import { Keyring, KeyringError } from '../../keyring.js'
import { type Broker, BrokerError } from '../../nats/broker.js'
import { connect } from '../../nats/connect.js'
import { CommandError, loadConfig } from '../context.js'

/** What a command prints: one object, a list of them, or a text beside what --json gives. */
export type Output = Fields | Fields[] | { text: string; json: Fields }
export type Fields = Record<string, unknown>

/** Options as commander gives them: those of a command are there, or have been refused. */
export interface Options {
  id?: string
  name?: string
  alg?: 'RS256' | 'ES256'
  project: string
  scope: string
  role: string
  limit: string
  before?: string
  messagesPerSecond: string
  url?: string
  kinds?: string
  json?: boolean
}

export interface Run {
  config: Config
  broker: Broker
  args: string[]
  options: Options
  /** Who has the password of NATS may do everything: this names the user of the machine, for AUDIT. */
  actor: Actor
}

/** An action on what the service knows: prints what `run` gives. */
export function onService(run: (administration: Administration, run: Run) => Promise<Output>) {
  return async function (this: Command): Promise<void> {
    const options = this.opts<Options>()
    const config = loadConfig(this)
    const actor: Actor = { name: `cli:${userInfo().username}`, role: 'operator', projects: '*' }
    await explained(async () => {
      const broker = await connect(config.nats, { name: 'admin' })
      try {
        const administration = new Administration(broker, systemClock)
        print(await run(administration, { config, broker, args: this.args, options, actor }), this)
      } finally {
        await broker.close()
      }
    })
  }
}

export function onKeyring(run: (run: { keyring: Keyring; file: string; args: string[] }) => Output) {
  return async function (this: Command): Promise<void> {
    const { file } = loadConfig(this).keyring
    await explained(async () =>
      print(run({ keyring: Keyring.open(file, systemClock.now()), file, args: this.args }), this),
    )
  }
}

/** What a user can act on is told as its message alone. */
async function explained(run: () => Promise<void>): Promise<void> {
  try {
    await run()
  } catch (error) {
    if (error instanceof CodedError) throw new CommandError(`${error.message} (${error.code})`, 1, { cause: error })
    if (error instanceof BrokerError || error instanceof KeyringError) {
      throw new CommandError(error.message, 1, { cause: error })
    }
    throw error
  }
}

function print(output: Output, command: Command): void {
  const write = command.configureOutput().writeOut ?? ((text: string) => process.stdout.write(text))
  const isText = (one: Output): one is { text: string; json: Fields } => 'text' in one && 'json' in one
  const json = isText(output) ? output.json : output
  if (command.opts<Options>().json) write(`${JSON.stringify(json, null, 2)}\n`)
  else write(isText(output) ? output.text : [output].flat().map(block).join('\n'))
}

function block(fields: Fields): string {
  const shown = (value: unknown) => (typeof value === 'object' && value !== null ? JSON.stringify(value) : value)
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${[value].flat().map(shown).join(' ')}\n`)
  return lines.join('')
}
