#!/usr/bin/env node
import { realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Command, CommanderError } from 'commander'
import { CommandError } from './cli/context.js'
import { version } from './cli/version.js'
import { ConfigError } from './config/config.js'
import { withoutSecrets } from './observe/log.js'

/**
 * `borealis`: every process of the service and its tools. Each command is one file of cli/, loaded only when it is
 * named, so that a transport does not carry the core's libraries.
 */
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
    summary: 'have a transport instance ask its devices to leave, then end',
    load: async () => (await import('./cli/instance.js')).drainCommand,
  },
  'rolling-restart': {
    summary: 'have a transport instance replace its workers, one after the other',
    load: async () => (await import('./cli/instance.js')).rollingRestartCommand,
  },
  reload: {
    summary: 'have a transport instance read its keys and certificate anew',
    load: async () => (await import('./cli/instance.js')).reloadCommand,
  },
  status: {
    summary: 'show how a transport instance stands',
    load: async () => (await import('./cli/instance.js')).statusCommand,
  },
  device: {
    summary: 'run a device: register applications and show their pushes',
    load: async () => (await import('./cli/device.js')).deviceCommand(),
  },
  admin: {
    summary: 'manage projects, applications, fleets, tokens and keys',
    load: async () => (await import('./cli/admin.js')).adminCommand(),
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
    summary: 'ask the core or transport of this machine whether it is well',
    load: async () => (await import('./cli/health.js')).healthCommand,
  },
}

/** 0: done; 1: failed; 2: the command line or the configuration is wrong. */
export async function main(argv: readonly string[]): Promise<number> {
  const program = new Command('borealis')
    .description('An open, on-premise push notification service for fleets of devices')
    .version(version(), '--version', 'print the version')
    .option('--config <file>', 'YAML file with settings; also BOREALIS_CONFIG')
    .option('--verbose', 'show the stack of an unexpected error')
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

/** Sub-commands made in other files know nothing of exitOverride; without it commander ends the process itself. */
function inherit(command: Command, parent: Command): Command {
  command.copyInheritedSettings(parent)
  for (const child of command.commands) inherit(child, command)
  return command
}

/** Errors whose message tells a user all there is to do. */
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
    // commander has written its message already; help and version end with 0.
    return error.exitCode === 0 ? 0 : 2
  }
  const known = error instanceof Error && expected.has(error.name)
  const text = error instanceof Error ? (verbose && error.stack ? error.stack : describe(error)) : String(error)
  process.stderr.write(`borealis: ${withoutSecrets(text)}\n`)
  if (!known && !verbose) process.stderr.write('(--verbose shows where this came from)\n')
  if (error instanceof ConfigError) return 2
  return error instanceof CommandError ? error.exitCode : 1
}

/** The message and those of its causes, which often hold the reason. */
function describe(error: Error): string {
  const cause = error.cause instanceof Error ? `: ${describe(error.cause)}` : ''
  return `${error.message || error.name}${cause}`
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  process.exitCode = await main(process.argv.slice(2))
}
