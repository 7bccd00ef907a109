/** The settings of a device: all limits and times, with their defaults. */
import Type, { type Static } from 'typebox'
import Value from 'typebox/value'

const ms = (value: number, description: string, minimum = 1) =>
  Type.Integer({ default: value, minimum, maximum: 86_400_000, description })
const count = (value: number, description: string, minimum = 1) =>
  Type.Integer({ default: value, minimum, maximum: 1_000_000_000, description })

export const DeviceSettings = Type.Object(
  {
    reconnectBaseMs: ms(1_000, 'Longest random wait before the first reconnect; each failed attempt doubles it'),
    reconnectCapMs: ms(60_000, 'Longest random wait before any reconnect'),
    retryAfterMsMax: ms(600_000, 'Longest wait that a server can impose (GOAWAY, ERROR, Retry-After)'),
    stableMs: ms(10_000, 'A connection that lived this long resets the count of failed attempts', 0),
    connectTimeoutMs: ms(10_000, 'Longest wait for an open WebSocket'),
    welcomeTimeoutMs: ms(10_000, 'Longest wait for WELCOME after HELLO'),
    pongTimeoutMs: ms(15_000, 'A keepalive without an answer for this long means that the connection is half open'),
    keepaliveMsMin: ms(1_000, 'Shortest keepalive interval accepted from a server'),
    keepaliveMsMax: ms(3_600_000, 'Longest keepalive interval accepted from a server'),
    requestTimeoutMs: ms(10_000, 'A request without an answer for this long is sent again'),
    requestSpacingMs: ms(25, 'Shortest time between two requests: servers limit the frames of a second', 0),
    requestAttemptsMax: count(5, 'Attempts after which a request fails'),
    requestsInFlightMax: count(8, 'Most requests that are sent and not answered'),
    requestsMax: count(256, 'Most requests that wait to be sent or answered'),
    seenMax: count(10_000, 'Most message ids remembered to recognise duplicates'),
    seenKeepMs: ms(3_600_000, 'Time for which a message id is remembered after its message has expired'),
    inboxMax: count(1_000, 'Number of notifications waiting for the hand-over at which the device stops reading'),
    heldMax: count(
      100,
      'Most notifications held because a pending registration or subscription may turn out to receive them',
      0,
    ),
    ackIdsMax: Type.Integer({ default: 1_000, minimum: 1, maximum: 2_000, description: 'Most ids in one ACK frame' }),
    expirySlackMs: ms(1_000, 'Time after its expiry for which a notification is still handed over', 0),
    dataBytesMax: count(16_384, 'Largest custom attributes that are decoded, in bytes'),
    dataItemsMax: count(4_096, 'Most values in custom attributes'),
    dataDepthMax: Type.Integer({ default: 16, minimum: 1, maximum: 64, description: 'Deepest nesting of attributes' }),
    webSocketBytesMax: count(65_539, 'Largest WebSocket message accepted from a server, in bytes'),
    fsync: Type.Union([Type.Literal('always'), Type.Literal('never')], {
      default: 'always',
      description:
        'always: acknowledged messages survive a power loss; never: they survive only the end of the process',
    }),
    journalBytesMax: count(1_048_576, 'The state file is rewritten when its journal has grown by this many bytes'),
    closeGraceMs: ms(5_000, 'Longest wait of close() for a handler that runs', 0),
  },
  { additionalProperties: false, default: {}, description: 'The client library and `borealis device`.' },
)

export type DeviceSettings = Static<typeof DeviceSettings>

const defaults = Value.Default(DeviceSettings, {}) as DeviceSettings
/** Load tools create thousands of clients with the same settings object, so each object is validated once. */
const checked = new WeakMap<Partial<DeviceSettings>, DeviceSettings>()

/** The defaults, overridden by the given settings. Throws RangeError for an unknown name or a value out of bounds. */
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
