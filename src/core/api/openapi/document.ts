/**
 * Makes the OpenAPI 3.1 document of a listener from its routes. Schemas stand in the routes, once, and error codes in the
 * registries. A schema with an `$id` becomes a component of that name, so that generated types have names too.
 */
import type { TObject, TSchema } from 'typebox'
import { type ErrorCode, Errors } from '../../../../protocol/errors.js'
import { type OAuthErrorCode, OAuthErrors } from '../../../../protocol/oauth-errors.js'
import type { Operation } from '../route.js'
import { ErrorAnswer, OAuthErrorAnswer } from './errors.js'

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
  /** The content of components.securitySchemes. An operation with a scope takes any of them. */
  securitySchemes: Record<string, object>
  /** True: operations without a scope take them too. */
  allSecured: boolean
}

/** Any request may get these. */
const ALWAYS: readonly ErrorCode[] = ['request_timeout', 'rate_limited', 'overloaded', 'unavailable', 'internal']
const WITH_BODY: readonly ErrorCode[] = [
  'malformed_json',
  'invalid_request',
  'payload_too_large',
  'unsupported_media_type',
  'storage_full',
]
const WITH_TOKEN: readonly ErrorCode[] = ['missing_token', 'bad_token', 'token_expired', 'forbidden']

export function openApiOf(routes: readonly DocumentedRoute[], options: DocumentOptions): object {
  const components = new Components()
  const paths: Record<string, Record<string, object>> = {}
  for (const { method, url, operation } of routes) {
    const path = pathOf(url)
    paths[path] = { ...paths[path], [method.toLowerCase()]: operationOf(operation, options, components) }
  }
  const { title, description, version, serverUrl, securitySchemes } = options
  return {
    openapi: '3.1.0',
    info: { title, description, version, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
    servers: [{ url: serverUrl }],
    tags: [...new Set(routes.map(({ operation }) => operation.tag))].map((name) => ({ name })),
    paths,
    components: { securitySchemes, schemas: components.schemas() },
  }
}

/** The named schemas of one document. */
class Components {
  private readonly byName = new Map<string, unknown>()

  schemas(): object {
    return Object.fromEntries([...this.byName].sort(([a], [b]) => (a < b ? -1 : 1)))
  }

  /** The schema as the document has it: each schema with a name in it is a reference. */
  refer(schema: unknown): unknown {
    if (Array.isArray(schema)) return schema.map((one) => this.refer(one))
    if (typeof schema !== 'object' || schema === null) return schema
    const { $id: name, ...rest } = schema as Record<string, unknown>
    const referring: Record<string, unknown> = {}
    for (const [key, value] of Object.entries(rest)) referring[key] = this.refer(value)
    if (rest.discriminator !== undefined)
      referring.discriminator = this.discriminatorOf(rest as unknown as Discriminated)
    return typeof name === 'string' ? this.add(name, referring) : referring
  }

  private add(name: string, schema: object): object {
    const known = this.byName.get(name)
    if (known !== undefined && JSON.stringify(known) !== JSON.stringify(schema)) {
      throw new Error(`two schemas of one document have the name ${name}`)
    }
    this.byName.set(name, schema)
    return { $ref: `#/components/schemas/${name}` }
  }

  private discriminatorOf({ discriminator, anyOf }: Discriminated): object {
    const { propertyName } = discriminator
    const mapping = anyOf.map((one) => [one.properties[propertyName]?.const, `#/components/schemas/${one.$id}`])
    return { propertyName, mapping: Object.fromEntries(mapping) }
  }
}

interface Discriminated {
  discriminator: { propertyName: string }
  anyOf: { $id: string; properties: Record<string, { const?: string }> }[]
}

/** `:name` is `{name}`; `::` is a colon. */
function pathOf(url: string): string {
  return url
    .replaceAll('::', '\u0000')
    .replaceAll(/:([A-Za-z]+)/g, '{$1}')
    .replaceAll('\u0000', ':')
}

function operationOf(
  operation: Operation,
  { securitySchemes, allSecured }: DocumentOptions,
  components: Components,
): object {
  const { id, summary, tag, scope, params, query, headers, body } = operation
  const parameters = [
    ...parametersOf(params, 'path', components),
    ...parametersOf(query, 'query', components),
    ...parametersOf(headers, 'header', components),
  ]
  const isSecured = scope !== undefined || allSecured
  const security = Object.entries(securitySchemes).map(([name, scheme]) => {
    const hasScopes = (scheme as { type?: string }).type === 'oauth2'
    return { [name]: hasScopes && scope !== undefined ? [scope] : [] }
  })
  return {
    operationId: id,
    summary,
    tags: [tag],
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(body ? { requestBody: requestBodyOf(body, operation.oauth, components) } : {}),
    responses: { ...answersOf(operation, components), ...errorsOf(operation, isSecured, components) },
    security: isSecured ? security : [],
  }
}

function parametersOf(
  schema: TObject | undefined,
  place: 'path' | 'query' | 'header',
  components: Components,
): object[] {
  const required = new Set<string>((schema?.required ?? []) as string[])
  return Object.entries(schema?.properties ?? {}).map(([name, property]) => {
    const { description, ...rest } = property as TSchema & { description?: string; $id?: string }
    const isRequired = place === 'path' || required.has(name)
    const referring = components.refer('$id' in rest ? property : rest)
    return { name, in: place, required: isRequired, ...(description ? { description } : {}), schema: referring }
  })
}

function requestBodyOf(body: TSchema, takesForms = false, components: Components): object {
  const schema = components.refer(body)
  const form = takesForms ? { 'application/x-www-form-urlencoded': { schema } } : {}
  const { type, required = [] } = body as { type?: string; required?: string[] }
  // As the check of requests has it: a body whose fields are all optional may be absent.
  return { required: type !== 'object' || required.length > 0, content: { 'application/json': { schema }, ...form } }
}

function answersOf({ answers }: Operation, components: Components): Record<string, object> {
  return Object.fromEntries(
    Object.entries(answers).map(([status, { description, body }]) => [
      status,
      { description, content: { 'application/json': { schema: components.refer(body) } } },
    ]),
  )
}

/** The errors of an operation by status, each with the codes that it may have. */
function errorsOf(operation: Operation, isSecured: boolean, components: Components): Record<string, object> {
  if (operation.oauth) {
    return byStatus(Object.keys(OAuthErrors) as OAuthErrorCode[], OAuthErrors, components.refer(OAuthErrorAnswer))
  }
  const codes: ErrorCode[] = [
    ...operation.errors,
    ...(operation.scope === undefined ? [] : (['unknown_project'] as const)),
    ...(isSecured ? WITH_TOKEN : []),
    ...(operation.body ? WITH_BODY : []),
    // Every operation refuses parameters of the query that it does not have.
    'invalid_request',
    ...ALWAYS,
  ]
  return byStatus([...new Set(codes)], Errors, components.refer(ErrorAnswer))
}

function byStatus<C extends string>(
  codes: readonly C[],
  registry: Record<C, { http: number; meaning: string }>,
  schema: unknown,
): Record<string, object> {
  const statuses = [...new Set(codes.map((code) => registry[code].http))].sort((a, b) => a - b)
  const content = { 'application/json': { schema } }
  const line = (code: C) => `\`${code}\`: ${registry[code].meaning}`
  return Object.fromEntries(
    statuses.map((status) => {
      const own = codes.filter((code) => registry[code].http === status)
      return [String(status), { description: own.map(line).join('\n\n'), content }]
    }),
  )
}
