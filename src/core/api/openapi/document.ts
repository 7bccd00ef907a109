/**
 * The OpenAPI 3.1 document of a listener, made from its routes: schemas stand in the routes, once, in TypeBox, and error
 * codes in the registries.
 */
import type { TObject, TSchema } from 'typebox'
import { type ErrorCode, Errors } from '../../../../protocol/errors.js'
import { type OAuthErrorCode, OAuthErrors } from '../../../../protocol/oauth-errors.js'
import type { Operation } from '../route.js'

export interface DocumentedRoute {
  method: string
  url: string
  operation: Operation
}

export interface DocumentOptions {
  title: string
  description: string
  version: string
  /** Without a slash at the end. */
  serverUrl: string
  /** What stands under components.securitySchemes; operations with a scope ask for the first. */
  securitySchemes: Record<string, object>
  /** Operations without a scope ask for it as well. */
  allSecured: boolean
}

/** What any request may be answered. */
const ALWAYS: readonly ErrorCode[] = ['request_timeout', 'rate_limited', 'overloaded', 'unavailable', 'internal']
const WITH_BODY: readonly ErrorCode[] = [
  ...(['malformed_json', 'invalid_request', 'payload_too_large', 'unsupported_media_type', 'storage_full'] as const),
]
const WITH_TOKEN: readonly ErrorCode[] = ['missing_token', 'bad_token', 'token_expired', 'forbidden']

export function openApiOf(routes: readonly DocumentedRoute[], options: DocumentOptions): object {
  const paths: Record<string, Record<string, object>> = {}
  for (const { method, url, operation } of routes) {
    const path = pathOf(url)
    paths[path] = { ...paths[path], [method.toLowerCase()]: operationOf(operation, options) }
  }
  const { title, description, version, serverUrl, securitySchemes } = options
  return {
    openapi: '3.1.0',
    info: { title, description, version, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
    servers: [{ url: serverUrl }],
    tags: [...new Set(routes.map(({ operation }) => operation.tag))].map((name) => ({ name })),
    paths,
    components: { securitySchemes, schemas: { Error: errorSchema(), OAuthError: oauthErrorSchema() } },
  }
}

/** `:name` is `{name}`; `::` is a colon. */
function pathOf(url: string): string {
  return url
    .replaceAll('::', '\u0000')
    .replaceAll(/:([A-Za-z]+)/g, '{$1}')
    .replaceAll('\u0000', ':')
}

function operationOf(operation: Operation, { securitySchemes, allSecured }: DocumentOptions): object {
  const { id, summary, tag, scope, params, query, headers, body } = operation
  const parameters = [
    ...parametersOf(params, 'path'),
    ...parametersOf(query, 'query'),
    ...parametersOf(headers, 'header'),
  ]
  const [scheme = ''] = Object.keys(securitySchemes)
  const isSecured = scope !== undefined || allSecured
  return {
    operationId: id,
    summary,
    tags: [tag],
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(body ? { requestBody: { required: true, content: contentOf(body, operation.oauth) } } : {}),
    responses: { ...answersOf(operation), ...errorsOf(operation, isSecured) },
    security: isSecured ? [{ [scheme]: scope === undefined ? [] : [scope] }] : [],
  }
}

function parametersOf(schema: TObject | undefined, place: 'path' | 'query' | 'header'): object[] {
  const required = new Set<string>((schema?.required ?? []) as string[])
  return Object.entries(schema?.properties ?? {}).map(([name, property]) => {
    const { description, ...rest } = property as TSchema & { description?: string }
    const isRequired = place === 'path' || required.has(name)
    return { name, in: place, required: isRequired, ...(description ? { description } : {}), schema: rest }
  })
}

function contentOf(body: TSchema, oauth = false): object {
  const form = oauth ? { 'application/x-www-form-urlencoded': { schema: body } } : {}
  return { 'application/json': { schema: body }, ...form }
}

function answersOf({ answers }: Operation): Record<string, object> {
  return Object.fromEntries(
    Object.entries(answers).map(([status, { description, body }]) => [
      status,
      { description, content: { 'application/json': { schema: body } } },
    ]),
  )
}

/** By status, with the codes that it may have. */
function errorsOf(operation: Operation, isSecured: boolean): Record<string, object> {
  const ofProject: ErrorCode[] = operation.scope === undefined ? [] : ['unknown_project']
  if (operation.oauth) return byStatus(Object.keys(OAuthErrors) as OAuthErrorCode[], OAuthErrors, 'OAuthError')
  const { errors, body, query, params } = operation
  const asks: ErrorCode[] = query || params ? ['invalid_request'] : []
  const codes = [
    ...errors,
    ...ofProject,
    ...(isSecured ? WITH_TOKEN : []),
    ...(body ? WITH_BODY : []),
    ...asks,
    ...ALWAYS,
  ]
  return byStatus([...new Set(codes)], Errors, 'Error')
}

function byStatus<C extends string>(
  codes: readonly C[],
  registry: Record<C, { http: number; meaning: string }>,
  schema: string,
): Record<string, object> {
  const statuses = [...new Set(codes.map((code) => registry[code].http))].sort((a, b) => a - b)
  const content = { 'application/json': { schema: { $ref: `#/components/schemas/${schema}` } } }
  const said = (code: C) => `\`${code}\`: ${registry[code].meaning}`
  return Object.fromEntries(
    statuses.map((status) => {
      const own = codes.filter((code) => registry[code].http === status)
      return [String(status), { description: own.map(said).join('\n\n'), content }]
    }),
  )
}

function errorSchema(): object {
  const codes = Object.entries(Errors).filter(([, { http }]) => http > 0)
  return {
    type: 'object',
    required: ['error'],
    properties: {
      error: {
        type: 'object',
        required: ['code', 'message', 'details'],
        properties: {
          code: { type: 'string', enum: codes.map(([code]) => code) },
          message: { type: 'string', description: 'For people.' },
          details: { type: 'object', description: 'Which field, which limit, which targets.' },
        },
      },
    },
  }
}

function oauthErrorSchema(): object {
  return {
    type: 'object',
    required: ['error', 'error_description'],
    properties: {
      error: { type: 'string', enum: Object.keys(OAuthErrors) },
      error_description: { type: 'string' },
    },
  }
}
