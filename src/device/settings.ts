/** Settings of a device: every limit and every time, with its default. */
import Type, { type Static } from 'typebox'
import Value from 'typebox/value'

const ms = (value: number, description: string, minimum = 1) =>
  Type.Integer({ default: value, minimum, maximum: 86_400_000, description })
const count = (value: number, description: string, minimum = 1) =>
  Type.Integer({ default: value, minimum, maximum: 1_000_000_000, description })

export const DeviceSettings = Type.Object(
  {
    reconnectBaseMs: ms(1_000, 'First reconnect waits a random time up to this; each failed attempt doubles it'),
    reconnectCapMs: ms(60_000, 'Longest random wait before a reconnect'),
    retryAfterMsMax: ms(600_000, 'Longest hint of a server (GOAWAY, ERROR, Retry-After) that is obeyed in full'),
    stableMs: ms(10_000, 'A connection that lived so long makes the next reconnect a first attempt again', 0),
    connectTimeoutMs: ms(10_000, 'Longest wait for an open WebSocket'),
    welcomeTimeoutMs: ms(10_000, 'Longest wait for WELCOME after HELLO'),
    pongTimeoutMs: ms(15_000, 'A keepalive without an answer for so long means that the connection is half open'),
    keepaliveMsMin: ms(1_000, 'Shortest keepalive interval taken from a server'),
    keepaliveMsMax: ms(3_600_000, 'Longest keepalive interval taken from a server'),
    requestTimeoutMs: ms(10_000, 'A request without an answer for so long is sent again'),
    requestSpacingMs: ms(25, 'Two requests are sent so far apart at least: servers limit frames a second', 0),
    requestAttemptsMax: count(5, 'A request is sent so often before it fails'),
    requestsInFlightMax: count(8, 'Most requests sent and not answered'),
    requestsMax: count(256, 'Most requests that wait for an answer'),
    seenMax: count(10_000, 'Most message ids kept to recognise duplicates'),
    seenKeepMs: ms(3_600_000, 'A message id is kept for so long after its message expired'),
    inboxMax: count(1_000, 'With so many notifications not handed over, the device stops reading'),
    heldMax: count(
      100,
      'Most notifications kept back while a registration or topic that they may be for is asked for',
      0,
    ),
    ackIdsMax: Type.Integer({ default: 1_000, minimum: 1, maximum: 2_000, description: 'Most ids in one ACK frame' }),
    expirySlackMs: ms(1_000, 'A notification is shown until so long after its expiry', 0),
    dataBytesMax: count(16_384, 'Largest custom attributes that are decoded, in bytes'),
    dataItemsMax: count(4_096, 'Most values in custom attributes'),
    dataDepthMax: Type.Integer({ default: 16, minimum: 1, maximum: 64, description: 'Deepest nesting of them' }),
    webSocketBytesMax: count(65_539, 'Largest WebSocket message taken from a server, in bytes'),
    fsync: Type.Union([Type.Literal('always'), Type.Literal('never')], {
      default: 'always',
      description: 'always: what is acknowledged survives a power loss; never: it survives the end of the process only',
    }),
    journalBytesMax: count(1_048_576, 'The state file is written anew when its journal grew by so many bytes'),
    closeGraceMs: ms(5_000, 'close() waits so long for a handler that is at work', 0),
  },
  { additionalProperties: false, default: {}, description: 'A device: the client library and `borealis device`.' },
)

export type DeviceSettings = Static<typeof DeviceSettings>

const defaults = Value.Default(DeviceSettings, {}) as DeviceSettings
/** Load tools make thousands of clients of the same settings: each object is checked once. */
const checked = new WeakMap<Partial<DeviceSettings>, DeviceSettings>()

/** The defaults, with what is given in their place. Throws RangeError where a value is out of bounds. */
export function deviceSettings(given?: Partial<DeviceSettings>): DeviceSettings {
  if (given === undefined) return defaults
  const known = checked.get(given)
  if (known) return known
  const complete = { ...defaults, ...given }
  if (!Value.Check(DeviceSettings, complete)) {
    const wrong = Value.Errors(DeviceSettings, complete).map((e) => `${e.instancePath.slice(1)} ${e.message}`)
    throw new RangeError(`device settings: ${wrong.join('; ')}`)
  }
  checked.set(given, complete)
  return complete
}
