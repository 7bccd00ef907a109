/** How a command of `borealis admin` runs: connect, act in the name of this machine's user, print, close. */
import { userInfo } from 'node:os'
import type { Command } from 'commander'
import { CodedError } from '../../../protocol/errors.js'
import { systemClock } from '../../clock.js'
import type { Config } from '../../config/config.js'
import { Administration } from '../../core/tenants/administration.js'
import type { Actor } from '../../core/tenants/auth/roles.js'
import { KeyringError } from '../../keyring.js'
import { type Broker, BrokerError } from '../../nats/broker.js'
import { connect } from '../../nats/connect.js'
import { CommandError, loadConfig } from '../context.js'
import { PrivateFile } from '../private-file.js'

/** The output of a command: one object, a list of objects, or a text with another form for --json. */
export type Output = Fields | Fields[] | TextOutput
export type Fields = Record<string, unknown>

export interface TextOutput {
  text: string
  json: Fields
  /** Printed instead of the others if --out writes the text to a file. */
  withoutSecrets?: Fields
}

/** Options as commander parses them. A command has its required options, because commander refuses it without them. */
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
  out?: string
  yes?: boolean
  force?: boolean
  void?: boolean
  json?: boolean
}

export interface Run {
  config: Config
  broker: Broker
  args: string[]
  options: Options
  /** The password of NATS gives every right. The actor only names the user of the machine, for the audit log. */
  actor: Actor
}

/** Runs an action that needs the service, and prints its output. */
export function onService(action: (administration: Administration, run: Run) => Promise<Output>) {
  return async function (this: Command): Promise<void> {
    const options = this.opts<Options>()
    const config = loadConfig(this)
    const actor: Actor = { name: `cli:${userInfo().username}`, role: 'operator', projects: '*' }
    await explained(async () => {
      const file = options.out === undefined ? null : new PrivateFile(options.out)
      try {
        const output = await act({ config, args: this.args, options, actor })
        print(file ? writtenTo(file, output) : output, this)
      } finally {
        file?.discard()
      }
    })
  }

  async function act(run: Omit<Run, 'broker'>): Promise<Output> {
    const broker = await connect(run.config.nats, { name: 'admin' })
    try {
      return await action(new Administration(broker, systemClock, run.config.auth), { ...run, broker })
    } finally {
      await broker.close()
    }
  }
}

/** Turns errors that a user can act on into a CommandError, which shows only its message. */
export async function explained(run: () => Promise<void>): Promise<void> {
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

/** Writes the text of an output to the file of --out. Returns the rest of the output. */
function writtenTo(file: PrivateFile, output: Output): Output {
  if (!isText(output)) throw new CommandError('this command has no file to write')
  file.write(output.text)
  return { ...output.withoutSecrets, file: file.path }
}

const isText = (output: Output): output is TextOutput => 'text' in output && 'json' in output

export function print(output: Output, command: Command): void {
  const write = command.configureOutput().writeOut ?? ((text: string) => process.stdout.write(text))
  const json = isText(output) ? output.json : output
  if (command.opts<Options>().json) write(`${JSON.stringify(json, null, 2)}\n`)
  else write(isText(output) ? output.text : [output].flat().map(block).join('\n'))
}

function block(fields: Fields): string {
  const shown = (value: unknown) => (typeof value === 'object' && value !== null ? JSON.stringify(value) : value)
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${[value].flat().map(shown).join(' ')}\n`)
  return lines.join('')
}
