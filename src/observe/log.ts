/**
 * The log: one line for each event that an operator acts on, never one for each message.
 *
 * Lines go to standard error, so that standard output holds only the result of a command. Secrets are removed twice: by
 * field name before serialisation, and by shape (JWTs, credentials in URLs) in the finished line.
 */
import { type DestinationStream, destination as fileDestination, type Logger, pino, stdTimeFunctions } from 'pino'
import Type, { type Static } from 'typebox'
import { formatLine } from './log-text.js'

export type { Logger }

export const LogSettings = Type.Object(
  {
    level: Type.Enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
      default: 'info',
      description: 'Least severe level that is logged.',
    }),
    format: Type.Enum(['auto', 'json', 'text'], {
      default: 'auto',
      description: 'One JSON object or one readable line for each event; `auto`: text on a terminal, else JSON.',
    }),
  },
  { additionalProperties: false, default: {}, description: 'The log of every process.' },
)
export type LogSettings = Static<typeof LogSettings>

/** Names of fields whose values are never logged, at the top level and one or two levels down. */
export const secretFields = [
  'accessToken',
  'assertion',
  'authorization',
  'credentials',
  'deviceToken',
  'enrolmentKey',
  'pass',
  'password',
  'privateKey',
  'secret',
  'ticket',
  'token',
  'userToken',
] as const

const redactedPaths = secretFields.flatMap((field) => [field, `*.${field}`, `*.*.${field}`])

/** Shapes of secrets inside longer strings, such as the message of an error from a library. */
const secretShapes: readonly [RegExp, string][] = [
  [/\beyJ[\w-]{8,}\.[\w-]+\.[\w-]+/g, '[jwt]'],
  [/\b(Bearer|Basic) +[\w.~+/=-]{8,}/gi, '$1 [secret]'],
  [/\b([a-z][a-z0-9+.-]*:\/\/)[^\s/@"]+@/gi, '$1[credentials]@'],
  [/\bwhsec_[\w+/=]{16,}/g, '[secret]'],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----/gs, '[private key]'],
]

export function withoutSecrets(text: string): string {
  return secretShapes.reduce((cleaned, [shape, replacement]) => cleaned.replace(shape, replacement), text)
}

/**
 * @param part the process or part that logs, such as `core` or `transport/0`: field `part` of every line.
 * @param sink destination of the lines; standard error by default.
 */
export function createLogger(part: string, settings: LogSettings, sink?: DestinationStream): Logger {
  const text = settings.format === 'text' || (settings.format === 'auto' && process.stderr.isTTY === true)
  return pino(
    {
      level: settings.level,
      base: { part },
      messageKey: 'message',
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: redactedPaths, censor: '[secret]' },
      serializers: { error: pino.stdSerializers.err, err: pino.stdSerializers.err },
      hooks: {
        streamWrite: (line) => withoutSecrets(text ? formatLine(line) : line),
      },
    },
    // Synchronous, because the last line before an exit is the most important one.
    sink ?? fileDestination({ fd: 2, sync: true }),
  )
}

/** Discards every line. For tests and simulations. */
export const silentLogger: Logger = pino({ level: 'silent' })
