/** Shared by all commands: their error class, and how they read the configuration. */
import type { Command } from 'commander'
import { type Config, readConfig } from '../config/config.js'
import { serviceLinksIn } from '../config/service-links.js'
import type { Logger } from '../observe/log.js'

/** An error that a user can act on. Only its message is shown. */
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

/** Reads the configuration that --config and the environment name. Throws ConfigError. */
export function loadConfig(command: Command): Config {
  const { config } = command.optsWithGlobals<{ config?: string }>()
  return readConfig({ file: config, environment: process.env })
}

/** Logs the variables that look like settings and are none, once for each start. */
export function logServiceLinks(log: Logger): void {
  const variables = serviceLinksIn(process.env)
  if (variables.length > 0) log.info({ variables }, 'variables that Kubernetes sets for a service are ignored')
}
