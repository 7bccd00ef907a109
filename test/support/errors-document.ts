/** docs/send/errors.md as the registry says it: a test compares the two. */
import { type ErrorKind, Errors } from '../../protocol/errors.js'
import { OAuthErrors } from '../../protocol/oauth-errors.js'

const OWNERS = { caller: 'the caller', peer: 'the other side', us: 'the service' } as const
const MOVES = { fix: 'fix the request', retry: 'try again later', give_up: 'do not try again' } as const

const intro = `# Errors

Every error has a code. Over HTTP it is answered as

    {"error": {"code": "invalid_request", "message": "ttl is required", "details": {"field": "ttl"}}}

with the status below. \`code\` is for programs and does not change; \`message\` is for people; \`details\` names the field,
the limit or the targets, where there is something to name. A 401 carries \`WWW-Authenticate: Bearer\`; an error of the
service that is worth another try carries \`Retry-After\`, in seconds. What caused an \`internal\` stands in the log of the
service and never in an answer.

The same codes stand in ERROR frames to devices (REGISTER, UNREGISTER, SUBSCRIBE, UNSUBSCRIBE) and, as the header
\`code\`, at records of NATS publishers that went to \`push.dead.<project>\`. A message of type \`devices\` is sent to those
of its targets that are good; the others are listed in \`rejected\`, each with its code.

A 503 means that nothing was promised: the message may be sent again, and with the same idempotency key is sent once.
This table is made from \`protocol/errors.ts\`.

| code | HTTP | whose | what to do | meaning |
| --- | --- | --- | --- | --- |`

const oauthIntro = `
## The token endpoint

Its errors are those of OAuth 2.0 (RFC 6749, section 5.2), as OAuth clients expect them:

    {"error": "invalid_client", "error_description": "the assertion was used before"}

What is wrong with a body is \`invalid_request\` with the status that fits (408, 413, 415). This table is made from
\`protocol/oauth-errors.ts\`.

| code | HTTP | whose | what to do | meaning |
| --- | --- | --- | --- | --- |`

export function errorsDocument(): string {
  const rows = (registry: Record<string, ErrorKind>) => Object.entries(registry).map(row)
  return `${[intro, ...rows(Errors), oauthIntro, ...rows(OAuthErrors)].join('\n')}\n`
}

function row([code, { http, owner, next, meaning }]: [string, ErrorKind]): string {
  return `| \`${code}\` | ${http || 'never'} | ${OWNERS[owner]} | ${MOVES[next]} | ${meaning} |`
}
