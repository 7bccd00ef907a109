/** What a server asks of every HELLO before it looks at the credential. PROTOCOL.md section "HELLO". */
import type { CloseName } from './close-codes.js'
import { PROTOCOL_VERSION } from './frame.js'
import type { HelloFrame } from './frame-types.js'

/** The close code to refuse it with; null: go on with its credential. The version comes first: the rest is of it. */
export function refusalOfHello(hello: HelloFrame): CloseName | null {
  if (hello.version !== PROTOCOL_VERSION) return 'unsupported_version'
  if (hello.connection === 0) return 'protocol_error'
  return hello.credential === null ? 'bad_token' : null
}
