/**
 * One operation of an HTTP API: its address, its caller, its input and its answers. The server serves it, and the OpenAPI
 * document is made from it. So each schema stands once, and what the document says is what the server checks.
 */
import Type, { type Static, type TObject, type TSchema } from 'typebox'
import type { ErrorCode } from '../../../protocol/errors.js'
import type { ScopeName } from '../tenants/auth/tokens.js'
import type { BodyKind } from './body.js'
import type { BaseContext, HttpCall } from './call.js'
import type { Step } from './flow.js'
import { type Checked, requestChecker } from './request.js'

export interface Route<C extends BaseContext> {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** `:name` stands for a parameter, `::` for a colon. */
  url: string
  handler: (call: HttpCall<C>) => unknown
  operation: Operation
}

export interface Operation<P extends TObject = TObject, Q extends TObject = TObject, B extends TSchema = TSchema> {
  /** Unique: generated clients name their methods after it. */
  id: string
  summary: string
  /** Groups operations in the document. */
  tag: string
  /** The scope that the bearer token must have; absent: the operation takes no access token. */
  scope?: ScopeName
  /** The parameters of the path. A malformed id that is answered 404 like an unknown one has no pattern here. */
  params?: P
  /** Every parameter of the query. Others are refused. */
  query?: Q
  /** The headers that this operation reads, in lower case. */
  headers?: TObject
  body?: B
  /** True for the token endpoint: it takes forms too, and writes its errors as OAuth does. */
  oauth?: boolean
  /** The successful answers by status. */
  answers: Record<number, { description: string; body: TSchema }>
  /** The errors of this operation beside those that every operation has. */
  errors: readonly ErrorCode[]
}

export interface RouteParts<
  C extends BaseContext,
  A extends HttpCall<C>,
  P extends TObject,
  Q extends TObject,
  B extends TSchema,
  K extends TSchema,
> extends Pick<Route<C>, 'method' | 'url'> {
  operation: Operation<P, Q, B>
  /** Which size the body may have; see BodyKind. */
  reads?: BodyKind
  /** The schema that the server checks where it is wider than `operation.body`, because the handler checks the rest. */
  checks?: K
  /** Authenticates the caller, before all other checks: a stranger learns nothing from them. */
  before: Step<HttpCall<C>, A>
  handler: Step<A & Checked<P, Q, Static<K>>, unknown>
}

/** A route whose request is checked by its schemas: first `before`, then query and path, then the body, then `handler`. */
export function route<
  C extends BaseContext,
  A extends HttpCall<C>,
  P extends TObject,
  Q extends TObject,
  B extends TSchema,
  K extends TSchema = B,
>(parts: RouteParts<C, A, P, Q, B, K>): Route<C> {
  const { method, url, operation, before, handler } = parts
  const check = requestChecker<A, P, Q, Static<K>>(parts)
  return { method, url, operation, handler: async (call) => handler(await check(await before(call))) }
}

/** Everything of a project stands below this address. */
export const PROJECT_URL = '/push/public/api/v1/projects/:project'

export const ProjectParams = Type.Object({
  project: Type.String({ description: 'The id of the project.' }),
})
