/**
 * One operation of the HTTP API: what it is called by, who may, what it takes and gives. The gateway serves it, and the
 * OpenAPI document is made from it: so a schema stands here once, in TypeBox.
 *
 * Schemas describe; the flows check, since their errors name a field and a limit (validate.ts).
 */
import Type, { type TObject, type TSchema } from 'typebox'
import type { ErrorCode } from '../../../protocol/errors.js'
import type { ScopeName } from '../tenants/auth/tokens.js'
import type { BaseContext, HttpCall } from './call.js'

export interface Route<C extends BaseContext> {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** With `:name` for each parameter; `::` is a colon. */
  url: string
  handler: (call: HttpCall<C>) => unknown
  operation: Operation
}

export interface Operation {
  /** Unique: names it in generated clients. */
  id: string
  summary: string
  /** Groups operations in the document. */
  tag: string
  /** Of the bearer token; absent: none is asked for. */
  scope?: ScopeName
  /** Properties are the parameters of the path. */
  params?: TObject
  query?: TObject
  /** Headers that mean something here, in lower case. */
  headers?: TObject
  body?: TSchema
  /** The token endpoint: takes forms too, and writes its errors as OAuth does. */
  oauth?: boolean
  /** By status, the good ones. */
  answers: Record<number, { description: string; body: TSchema }>
  /** Those that this operation has beside the ones that every operation has. */
  errors: readonly ErrorCode[]
}

/** Where everything of a project stands. */
export const PROJECT_URL = '/push/public/api/v1/projects/:project'

export const ProjectParams = Type.Object({
  project: Type.String({ description: 'Id of the project.', maxLength: 64 }),
})
