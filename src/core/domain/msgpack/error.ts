/**
 * msgpack of what JSON can say, for values that strangers chose: custom attributes out, bodies of NATS publishers in.
 * Bounded while it works, not afterwards, and without the liberties of a general codec (extensions, records, `toJSON`).
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
