import { type DestinationStream, destination as fileDestination, type Logger, pino, stdTimeFunctions } from 'pino'
import Type, { type Static } from 'typebox'
import { formatLine } from './log-text.js'

/**
 * The log: one line for each event that an operator acts on, never one for each message.
 *
 * Lines go to standard error, so that standard output stays the result of a command. Secrets are removed twice: by
 * field name before serialisation, and by shape (JWTs, credentials in URLs) in the finished line.
 */
export type { Logger }

export const LogSettings = Type.Object(
  {
    level: Type.Enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
      default: 'info',
      description: 'Least severe level that is written.',
    }),
    format: Type.Enum(['auto', 'json', 'text'], {
      default: 'auto',
      description: 'One JSON object or one readable line for each event; auto: text on a terminal, JSON elsewhere.',
    }),
  },
  { additionalProperties: false, default: {}, description: 'What every process logs.' },
)
export type LogSettings = Static<typeof LogSettings>

/** Names of fields whose values are never written, at the top and one or two levels down. */
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

/** Whatever carries a secret inside a longer string, such as the message of somebody else's error. */
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
 * @param part which process or part speaks, such as `core` or `transport/0`; the field `part` of every line.
 * @param sink where lines go; standard error where absent.
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
    // Synchronous: the last line before an exit is the one that matters most.
    sink ?? fileDestination({ fd: 2, sync: true }),
  )
}

/** For tests and simulations: takes everything, writes nothing. */
export const silentLogger: Logger = pino({ level: 'silent' })
