/** The log of a simulated process: errors of the store are life; any other error that is logged is a fault of ours. */
import { CodedError } from '../../protocol/errors.js'
import { BrokerError } from '../../src/nats/broker.js'
import type { Logger } from '../../src/observe/log.js'
import type { WorldParts } from './parts.js'

const LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace']

export function strictLogger(world: Pick<WorldParts, 'trace' | 'fail'>, who: string): Logger {
  const take = (severity: string) => (fields: { error?: unknown }, message: string) => {
    const { error } = fields
    if (world.trace.isKept) {
      const details = JSON.stringify({ ...fields, error: error && String(error) }, digits)
      world.trace.note(who, `${severity}: ${message} ${details}`)
    }
    const isOfStore = error instanceof BrokerError || error instanceof CodedError
    if (severity === 'error' || (error !== undefined && !isOfStore)) {
      world.fail('internal', `${who}: ${message}: ${error instanceof Error ? error.stack : String(error)}`)
    }
  }
  return Object.fromEntries(LEVELS.map((level) => [level, take(level)])) as unknown as Logger
}

const digits = (_: string, value: unknown) => (typeof value === 'bigint' ? value.toString() : value)
