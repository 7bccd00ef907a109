/** The logger of a simulated process. Errors of the store are expected; any other logged error is a violation. */
import { CodedError } from '../../protocol/errors.js'
import { BrokerError } from '../../src/nats/broker.js'
import type { Logger } from '../../src/observe/log.js'
import type { WorldParts } from './parts.js'

const LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace']

export function strictLogger(world: Pick<WorldParts, 'trace' | 'fail'>, part: string): Logger {
  const take = (severity: string) => (fields: { error?: unknown }, message: string) => {
    const { error } = fields
    if (world.trace.isKept) {
      const details = JSON.stringify({ ...fields, error: error && String(error) }, bigIntsAsDigits)
      world.trace.note(part, `${severity}: ${message} ${details}`)
    }
    const isOfStore = error instanceof BrokerError || error instanceof CodedError
    if (severity === 'error' || (error !== undefined && !isOfStore)) {
      world.fail('internal', `${part}: ${message}: ${error instanceof Error ? error.stack : String(error)}`)
    }
  }
  return Object.fromEntries(LEVELS.map((level) => [level, take(level)])) as unknown as Logger
}

const bigIntsAsDigits = (_: string, value: unknown) => (typeof value === 'bigint' ? value.toString() : value)
