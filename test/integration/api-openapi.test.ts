import { Validator } from '@seriousme/openapi-schema-validator'
import t from 'tap'
import { Errors } from '../../protocol/errors.js'
import { OAuthErrors } from '../../protocol/oauth-errors.js'
import { adminRoutes } from '../../src/core/api/admin/server.js'
import { adminDocument, publicDocument } from '../../src/core/api/openapi/documents.js'
import { routes } from '../../src/core/api/public/gateway.js'
import { startAdminApi } from '../support/admin-api.js'
import { startTestApi } from '../support/api.js'
import { undocumented } from '../support/documented.js'
import { type Answer, isError } from '../support/http.js'

type Content = Record<string, { schema: object }>

interface Operation {
  operationId: string
  summary: string
  tags: string[]
  parameters?: { name: string; in: string }[]
  requestBody?: { content?: Content }
  responses: Record<string, { description: string; content?: Content }>
  security: Record<string, string[]>[]
}

interface Document {
  info: { title: string }
  servers: { url: string }[]
  tags: { name: string }[]
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, object>; securitySchemes: Record<string, object> }
}

t.test('both OpenAPI documents are valid, and each operation has a name, a summary and answers', async (t) => {
  const api = await startTestApi(t)
  const { app } = api.gateway
  const served = JSON.parse((await app.inject('/openapi.json')).body) as Document
  t.equal(served.servers[0]?.url, api.publicUrl)
  const admin = adminDocument(adminRoutes()) as Document
  for (const document of [served, admin]) {
    const { valid, errors } = await new Validator().validate(JSON.parse(JSON.stringify(document)))
    t.ok(valid, `${document.info.title}: ${JSON.stringify(errors)}`)
    lint(document)
  }
  const broken = JSON.parse(JSON.stringify(served)) as Document
  for (const operation of Object.values(broken.paths['/healthz'] ?? {}))
    operation.responses = { bad: { description: '' } }
  t.notOk((await new Validator().validate({ ...broken })).valid, 'the validator finds a planted mistake')

  function lint({ paths, components, tags }: Document): void {
    const operations = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
    )
    const ids = operations.map(({ operation }) => operation.operationId)
    t.equal(new Set(ids).size, ids.length, 'no two operations share a name')
    const schemes = Object.keys(components.securitySchemes)
    for (const name of Object.keys(components.schemas)) t.match(name, /^[A-Z][A-Za-z]+$/, `${name} can name a type`)
    t.same(unnamed(paths), [], 'each body is a named schema')
    for (const { path, method, operation } of operations) {
      const name = `${method} ${path}`
      t.match(operation.operationId, /^[a-z][A-Za-z]+$/, `${name} has a name`)
      t.ok(operation.summary.length > 3 && !operation.summary.endsWith('.'), `${name} has a summary`)
      t.ok(
        operation.tags.every((tag) => tags.some(({ name }) => name === tag)),
        `${name}: its tags are declared`,
      )
      const inPath = [...path.matchAll(/\{([A-Za-z]+)\}/g)].map(([, parameter]) => parameter)
      const declared = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path')
      t.same(declared.map(({ name }) => name).sort(), inPath.sort(), `${name}: the parameters of its path are declared`)
      const statuses = Object.keys(operation.responses)
      t.ok(
        statuses.some((status) => status.startsWith('2')),
        `${name} can succeed`,
      )
      t.ok(
        statuses.some((status) => status.startsWith('4')),
        `${name} can fail`,
      )
      t.ok(
        Object.values(operation.responses).every(({ description }) => description !== ''),
        `${name} describes each answer`,
      )
      for (const scheme of operation.security.flatMap(Object.keys)) t.ok(schemes.includes(scheme), `${name}: ${scheme}`)
    }
  }
})

/** Bodies of requests and answers without a named schema: a generator of types would have to invent a name. */
function unnamed(paths: Document['paths']): string[] {
  const bodies = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([method, { requestBody, responses }]) =>
      [requestBody, ...Object.values(responses)].flatMap((body) =>
        Object.values(body?.content ?? {}).map(({ schema }) => ({ name: `${method} ${path}`, schema })),
      ),
    ),
  )
  return bodies.filter(({ schema }) => !('$ref' in schema)).map(({ name }) => name)
}

t.test('the OpenAPI document has each route, each error code and the security of each operation', async (t) => {
  const api = await startTestApi(t)
  const document = publicDocument(routes(api.auth, api.messages), api.publicUrl) as Document
  t.equal(
    Object.values(document.paths).flatMap((methods) => Object.keys(methods)).length,
    routes(api.auth, api.messages).length,
    'one operation for each route',
  )
  const codes = Object.entries(Errors).filter(([, { http }]) => http > 0)
  const text = JSON.stringify(document.components.schemas)
  for (const code of [...codes.map(([code]) => code), ...Object.keys(OAuthErrors)])
    t.ok(text.includes(`"${code}"`), code)
  t.match(document.paths['/push/public/api/v1/projects/{project}/messages']?.post?.security, [
    { serviceAccount: ['message:update'] },
    { accessToken: [] },
  ])
  t.same(document.paths['/healthz']?.get?.security, [])
})

t.test('undocumented() finds an answer that the OpenAPI document does not describe', async (t) => {
  const api = await startTestApi(t)
  const asked = { method: 'GET', url: '/healthz' }
  t.equal(undocumented(api, asked, { statusCode: 200, body: { status: 'ok' } }), null)
  t.match(undocumented(api, asked, { statusCode: 200, body: {} }), /status/)
  t.match(
    undocumented(api, asked, { statusCode: 410, body: { error: { code: 'revoked_registration' } } }),
    /not documented/,
  )
  t.equal(undocumented(api, { method: 'GET', url: '/nothing' }, { statusCode: 404, body: {} }), null)
})

t.test('the page /docs loads Swagger UI from its own origin, and nothing from elsewhere', async (t) => {
  const { api, server } = await startAdminApi(t)
  for (const { app } of [api.gateway, server]) {
    const page = await app.inject('/docs')
    t.equal(page.statusCode, 200)
    const policy = String(page.headers['content-security-policy'])
    for (const part of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "connect-src 'self'"]) {
      t.ok(policy.split('; ').includes(part), part)
    }
    t.notMatch(policy, /unsafe|https?:|\*/)
    t.match(page.headers, { 'content-type': /^text\/html/, 'x-content-type-options': 'nosniff' })
    t.notMatch(page.body, /<script>|style=|https?:/, 'no inline script or style, and no other origin')
    const loaded = [...page.body.matchAll(/(?:href|src)="([^"]+)"/g)].map(([, path]) => path ?? '')
    t.same(loaded, ['/docs/favicon-32x32.png', '/docs/swagger-ui.css', '/docs/swagger-ui-bundle.js', '/docs/start.js'])
    for (const path of loaded) {
      const file = await app.inject(path)
      t.equal(file.statusCode, 200, path)
      t.equal(Number(file.headers['content-length']), file.rawPayload.length, `${path} is whole`)
    }
    isError(t, await errorOf(app.inject({ method: 'POST', url: '/docs' })), 'method_not_allowed')
    isError(t, await errorOf(app.inject('/docs/swagger-ui.js')), 'not_found', 'only the files that the page needs')
    isError(t, await errorOf(app.inject('/docs/..%2fpackage.json')), 'not_found')
  }
})

t.test('the script of the page shows the document with the origin of the page as its server', async (t) => {
  const { gateway } = await startTestApi(t)
  const script = (await gateway.app.inject('/docs/start.js')).body
  const shown: { spec: Document; dom_id: string }[] = []
  let load = async () => {}
  const run = new Function('addEventListener', 'fetch', 'location', 'SwaggerUIBundle', script)
  run(
    (_name: string, listener: () => Promise<void>) => {
      load = listener
    },
    async (url: string) => {
      const { body } = await gateway.app.inject(url)
      return { json: async () => JSON.parse(body) }
    },
    { origin: 'https://here.example.com' },
    (options: { spec: Document; dom_id: string }) => shown.push(options),
  )
  await load()
  t.match(shown, [{ dom_id: '#swagger-ui', spec: { servers: [{ url: 'https://here.example.com' }] } }])
  t.ok(shown[0]?.spec.paths['/healthz'])
})

async function errorOf(response: PromiseLike<{ statusCode: number; headers: object; body: string }>): Promise<Answer> {
  const { statusCode, headers, body } = await response
  return { statusCode, headers: headers as Answer['headers'], body: JSON.parse(body) }
}
