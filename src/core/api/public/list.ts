/** GET .../messages: the newest messages of a project, page by page. */
import Type, { type Static } from 'typebox'
import { TextLike } from '../../domain/schema.js'
import type { AuthenticatedCall } from './context.js'

const LIMIT_DEFAULT = 50

export const PageQuery = Type.Object({
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: LIMIT_DEFAULT })),
  before: Type.Optional(
    TextLike(/^[1-9][0-9]{0,18}$/, 'the `next` of a page', { description: '`next` of the page before.' }),
  ),
})

export async function listMessages({
  context,
  project,
  query,
}: AuthenticatedCall & { query: Static<typeof PageQuery> }): Promise<object> {
  const { limit = LIMIT_DEFAULT, before } = query
  const page = { before: before === undefined ? null : BigInt(before), limit }
  const listed = await context.listMessages(project.id, page)
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
