/** GET .../messages: the newest messages of a project, page by page. */
import { CodedError } from '../../../../protocol/errors.js'
import { parseMessageId } from '../../../../protocol/message-id.js'
import { Scope } from '../../tenants/auth/tokens.js'
import { flow } from '../flow.js'
import { type AuthenticatedCall, authenticate } from './context.js'
import { PAGE_MAX } from './message-schemas.js'

const LIMIT_DEFAULT = 50

export const listMessages = flow(authenticate(Scope.MESSAGE_UPDATE), answerPage)

async function answerPage({ context, project, request }: AuthenticatedCall): Promise<object> {
  const query = request.query as Record<string, unknown>
  const limit = limitOf(query.limit)
  const listed = await context.listMessages(project.id, { before: beforeOf(query.before), limit })
  const last = listed.at(-1)
  return {
    messages: listed.map(({ id, type, acceptedAtMs, status }) => ({
      id: id.toString(),
      type,
      acceptedAt: new Date(acceptedAtMs).toISOString(),
      ...(status !== undefined && { status }),
    })),
    next: last && listed.length === limit ? last.id.toString() : null,
  }
}

function limitOf(value: unknown): number {
  if (value === undefined) return LIMIT_DEFAULT
  const limit = typeof value === 'string' && /^[0-9]{1,3}$/.test(value) ? Number(value) : 0
  if (limit >= 1 && limit <= PAGE_MAX) return limit
  throw new CodedError('invalid_request', `limit must be 1 to ${PAGE_MAX}`, { field: 'limit' })
}

function beforeOf(value: unknown): bigint | null {
  if (value === undefined) return null
  const id = typeof value === 'string' ? parseMessageId(value) : null
  if (id !== null) return id
  throw new CodedError('invalid_request', 'before must be the `next` of a page', { field: 'before' })
}
