import type { Command } from 'commander'
import { type Config, readConfig } from '../config/config.js'

/** A failure that a user can act on: shown as its message alone. */
export class CommandError extends Error {
  constructor(
    message: string,
    readonly exitCode = 1,
    options?: ErrorOptions,
  ) {
    super(message, options)
    this.name = 'CommandError'
  }
}

/** The configuration as the global option --config and the environment name it. Throws ConfigError. */
export function loadConfig(command: Command): Config {
  const { config } = command.optsWithGlobals<{ config?: string }>()
  return readConfig({ file: config, environment: process.env })
}
