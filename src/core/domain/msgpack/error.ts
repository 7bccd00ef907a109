/**
 * A msgpack codec for values of JSON that untrusted senders choose: it encodes custom attributes and decodes the bodies of
 * NATS publishers.
 *
 * This is our own code because msgpackr limits neither depth nor size while it works, calls `toJSON`, and accepts extension
 * types, which JSON cannot express. msgpackr serves all trusted data (ADR 3).
 */

export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue }

export type MsgpackProblem = 'too_large' | 'too_deep' | 'not_json' | 'malformed'

export class MsgpackError extends Error {
  constructor(
    readonly problem: MsgpackProblem,
    message: string,
  ) {
    super(message)
    this.name = 'MsgpackError'
  }
}
