/** The checks of every HELLO that come before its credential is verified. PROTOCOL.md, section "HELLO". */
import type { CloseName } from './close-codes.js'
import { PROTOCOL_VERSION } from './frame.js'
import type { HelloFrame } from './frame-types.js'

/**
 * The reason to refuse HELLO; null: go on with the credential. The version comes first, because it gives the other
 * fields their meaning.
 */
export function refusalOfHello(hello: HelloFrame): CloseName | null {
  if (hello.version !== PROTOCOL_VERSION) return 'unsupported_version'
  if (hello.connection === 0) return 'protocol_error'
  return hello.credential === null ? 'bad_token' : null
}
