#!/usr/bin/env node
/**
 * `borealis`: every process of the service and its tools. Each command is one file in cli/ and is loaded only when it is
 * named, so that a transport does not load the libraries of the core.
 */
import { realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Command, CommanderError } from 'commander'
import { CommandError } from './cli/context.js'
import { version } from './cli/version.js'
import { ConfigError } from './config/config.js'
import { withoutSecrets } from './observe/log.js'

interface Entry {
  summary: string
  load(): Promise<Command>
}

const commands: Readonly<Record<string, Entry>> = {
  start: {
    summary: 'run everything on this machine, with a sample device',
    load: async () => (await import('./cli/start.js')).startCommand,
  },
  core: {
    summary: 'run a core: the HTTP API and the delivery steps',
    load: async () => (await import('./cli/core.js')).coreCommand,
  },
  transport: {
    summary: 'run a transport instance: the connections of devices',
    load: async () => (await import('./cli/transport.js')).transportCommand,
  },
  drain: {
    summary: 'make a transport instance ask its devices to leave, and then end',
    load: async () => (await import('./cli/instance.js')).drainCommand,
  },
  'rolling-restart': {
    summary: 'make a transport instance replace its workers, one after the other',
    load: async () => (await import('./cli/instance.js')).rollingRestartCommand,
  },
  reload: {
    summary: 'make a transport instance read its keys and certificate again',
    load: async () => (await import('./cli/instance.js')).reloadCommand,
  },
  status: {
    summary: 'show the state of a transport instance',
    load: async () => (await import('./cli/instance.js')).statusCommand,
  },
  device: {
    summary: 'run a device: register applications and show their pushes',
    load: async () => (await import('./cli/device.js')).deviceCommand(),
  },
  admin: {
    summary: 'manage projects, applications, fleets and tokens',
    load: async () => (await import('./cli/admin.js')).adminCommand(),
  },
  keyring: {
    summary: 'make the keys of the service, and exchange them',
    load: async () => (await import('./cli/keyring.js')).keyringCommand(),
  },
  config: {
    summary: 'show or check the configuration',
    load: async () => (await import('./cli/config.js')).configCommand,
  },
  backup: {
    summary: 'copy the whole store and the keyring into a folder',
    load: async () => (await import('./cli/backup.js')).backupCommand,
  },
  restore: {
    summary: 'bring a backup into an empty store',
    load: async () => (await import('./cli/backup.js')).restoreCommand,
  },
  frame: {
    summary: 'explain the bytes of a device connection',
    load: async () => (await import('./cli/frame.js')).frameCommand(),
  },
  health: {
    summary: 'ask whether the core or transport on this machine is healthy',
    load: async () => (await import('./cli/health.js')).healthCommand,
  },
}

/** Resolves with the exit code. 0: success; 1: failure; 2: an error in the command line or the configuration. */
export async function main(argv: readonly string[]): Promise<number> {
  const program = new Command('borealis')
    .description('An open, on-premise push notification service for fleets of devices')
    .version(version(), '--version', 'print the version')
    .option('--config <file>', 'YAML file with settings; also BOREALIS_CONFIG')
    .option('--verbose', 'show the stack trace of an unexpected error')
    .showHelpAfterError('(borealis --help lists the commands)')
    .exitOverride()
  for (const [name, { summary, load }] of Object.entries(commands)) {
    program.addCommand(argv.includes(name) ? inherit(await load(), program) : new Command(name).description(summary))
  }
  try {
    await program.parseAsync(argv, { from: 'user' })
    return Number(process.exitCode ?? 0)
  } catch (error) {
    return report(error, argv.includes('--verbose'))
  }
}

/** Subcommands from other files have no exitOverride of their own, and without it commander ends the process itself. */
function inherit(command: Command, parent: Command): Command {
  command.copyInheritedSettings(parent)
  for (const child of command.commands) inherit(child, command)
  return command
}

/** Errors whose message is complete for a user, without a stack trace. */
const expected = new Set([
  'CommandError',
  'ConfigError',
  'CodedError',
  'BrokerError',
  'KeyringError',
  'StoreFormatError',
  'BackupError',
])

function report(error: unknown, verbose: boolean): number {
  if (error instanceof CommanderError) {
    // commander has written its message already. Help and version end with 0.
    return error.exitCode === 0 ? 0 : 2
  }
  const known = error instanceof Error && expected.has(error.name)
  const text = error instanceof Error ? (verbose && error.stack ? error.stack : describe(error)) : String(error)
  process.stderr.write(`borealis: ${withoutSecrets(text)}\n`)
  if (!known && !verbose) process.stderr.write('(--verbose shows the stack trace)\n')
  if (error instanceof ConfigError) return 2
  return error instanceof CommandError ? error.exitCode : 1
}

/** The message of an error, followed by those of its causes, which often hold the reason. No message appears twice. */
export function describe(error: Error): string {
  let text = ''
  for (let one: unknown = error; one instanceof Error; one = one.cause) {
    const message = one.message || one.name
    if (!text.includes(message)) text += text === '' ? message : `: ${message}`
  }
  return text
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  process.exitCode = await main(process.argv.slice(2))
}
