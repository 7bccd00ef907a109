/** Makes docs/send/errors.md from the registries of errors. A test compares the two. */
import { type ErrorKind, Errors } from '../../protocol/errors.js'
import { OAuthErrors } from '../../protocol/oauth-errors.js'

const OWNERS = { caller: 'the caller', peer: 'the other side', us: 'the service' } as const
const MOVES = { fix: 'fix the request', retry: 'try again later', give_up: 'do not try again' } as const

const intro = `# Errors

Every error has a code. The HTTP API answers an error like this:

    400 {"error": {"code": "invalid_request", "message": "ttl is required", "details": {"field": "ttl"}}}

- \`code\` is for programs and does not change. \`message\` is for people. \`details\` names the field, the limit or the
  targets, where there is one to name.
- A 401 has the header \`WWW-Authenticate: Bearer\`.
- \`Retry-After\`, in seconds, is there when a later attempt makes sense: with 429, and with errors of the service.
- Status reads, lists, counters and cancels share a budget. Beyond it they are answered 503 \`overloaded\`, and messages
  are accepted all the same: read fewer at once, or take [events](events.md) instead.
- The cause of an \`internal\` is in the log of the service, and never in an answer.

The same codes are in \`rejected\` for the targets of a \`devices\` message that cannot be sent to, in the header
\`code\` of the [dead letters](nats-publishing.md) of NATS publishers, and in ERROR frames to devices, for which
[PROTOCOL.md](../../protocol/PROTOCOL.md#error) says what each code means.

| what to do | in a program |
| --- | --- |
| fix the request | the same request fails in the same way. Stop, and tell a developer |
| try again later | wait for \`Retry-After\`, or for a moment that grows with each attempt; send with the same \`Idempotency-Key\` |
| do not try again | this target or message is over: forget the registrationId, or stop asking |

**A 503 promises nothing.** The message may be stored or not. Send it again with the same \`Idempotency-Key\`, and it is
one message.

## Codes

This table is made from \`protocol/errors.ts\`.

| code | HTTP | whose fault | what to do | meaning |
| --- | --- | --- | --- | --- |`

const oauthIntro = `
## Codes that need more words

| code | what to check |
| --- | --- |
| \`unknown_registration\` | the text was cut or changed on its way, or it comes from another installation. If *every* registrationId is unknown, this core has another keyring than the one that made them: tell the operator |
| \`revoked_registration\` | the app was removed, its user signed out, or the device was revoked. The app gets a new registrationId when it registers again |
| \`bad_user_token\` | [users](users.md#when-it-is-refused) has a list |
| \`bad_token\` | also when the key that the token was requested with was removed from the project, or the core that answers does not have the key that signed the token |
| \`storage_full\` | a stream has reached its size in \`store.*\`: tell the operator |
| \`rate_limited\` | [how fast](messages.md#how-fast) a project may send |
| \`already_final\` | [cancel](cancel.md) |

## The token endpoint

Its errors have the form of OAuth 2.0 (RFC 6749, section 5.2), which OAuth clients expect:

    401 {"error": "invalid_client", "error_description": "the assertion was used before"}

A body that cannot be read is \`invalid_request\` with the status that fits (408, 413, 415). This table is made from
\`protocol/oauth-errors.ts\`.

| code | HTTP | whose fault | what to do | meaning |
| --- | --- | --- | --- | --- |`

export function errorsDocument(): string {
  const rows = (registry: Record<string, ErrorKind>) => Object.entries(registry).map(row)
  return `${[intro, ...rows(Errors), oauthIntro, ...rows(OAuthErrors)].join('\n')}\n`
}

function row([code, { http, owner, next, meaning }]: [string, ErrorKind]): string {
  return `| \`${code}\` | ${http || 'never'} | ${OWNERS[owner]} | ${MOVES[next]} | ${meaning} |`
}
