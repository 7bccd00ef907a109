/** Runs a command of `borealis admin`: connects, acts as the user of this machine, prints, and closes. */
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

/** The output of a command: one object, a list of them, or a text, with the object that --json prints instead. */
export type Output = Fields | Fields[] | { text: string; json: Fields }
export type Fields = Record<string, unknown>

/** Options as commander parsed them. A command without its required options does not run. */
export interface Options {
  id?: string
  name?: string
  alg?: 'RS256' | 'ES256'
  project: string
  scope: string
  role: string
  limit: string
  before?: string
  uses?: string
  until?: string
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
  /** The user of the machine, for AUDIT. The password of NATS allows everything. */
  actor: Actor
}

/** A command that works on the tables of the service, and prints the result of `run`. */
export function onService(run: (administration: Administration, run: Run) => Promise<Output>) {
  return async function (this: Command): Promise<void> {
    const options = this.opts<Options>()
    const config = loadConfig(this)
    const actor: Actor = { name: `cli:${userInfo().username}`, role: 'operator', projects: '*' }
    await explained(async () => {
      const broker = await connect(config.nats, { name: 'admin' })
      try {
        const administration = new Administration(broker, systemClock, config.auth)
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

/** An error that a user can act on becomes its message alone. Its own cause may say more; the error itself would repeat it. */
async function explained(run: () => Promise<void>): Promise<void> {
  try {
    await run()
  } catch (error) {
    const { cause } = error as Error
    if (error instanceof CodedError) throw new CommandError(`${error.message} (${error.code})`, 1, { cause })
    if (error instanceof BrokerError || error instanceof KeyringError) {
      throw new CommandError(error.message, 1, { cause })
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
