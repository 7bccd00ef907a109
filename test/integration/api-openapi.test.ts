import { Validator } from '@seriousme/openapi-schema-validator'
import t from 'tap'
import { Errors } from '../../protocol/errors.js'
import { OAuthErrors } from '../../protocol/oauth-errors.js'
import { adminRoutes } from '../../src/core/api/admin/server.js'
import { adminDocument, publicDocument } from '../../src/core/api/openapi/documents.js'
import { routes } from '../../src/core/api/public/gateway.js'
import { startTestApi, until } from '../support/api.js'
import { undocumented } from '../support/documented.js'

interface Operation {
  operationId: string
  summary: string
  tags: string[]
  parameters?: { name: string; in: string }[]
  responses: Record<string, { description: string }>
  security: Record<string, string[]>[]
}

interface Document {
  info: { title: string }
  servers: { url: string }[]
  tags: { name: string }[]
  paths: Record<string, Record<string, Operation>>
  components: { schemas: { Error: object; OAuthError: object }; securitySchemes: Record<string, object> }
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
  t.notOk((await new Validator().validate({ ...broken })).valid, 'the validator finds a mistake')

  function lint({ paths, components, tags }: Document): void {
    const operations = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
    )
    const ids = operations.map(({ operation }) => operation.operationId)
    t.equal(new Set(ids).size, ids.length, 'each operation has a name of its own')
    const schemes = Object.keys(components.securitySchemes)
    for (const { path, method, operation } of operations) {
      const name = `${method} ${path}`
      t.match(operation.operationId, /^[a-z][A-Za-z]+$/, name)
      t.ok(operation.summary.length > 3 && !operation.summary.endsWith('.'), `${name} has a summary`)
      t.ok(
        operation.tags.every((tag) => tags.some((one) => one.name === tag)),
        `${name}: its tag is declared`,
      )
      const wanted = [...path.matchAll(/\{([A-Za-z]+)\}/g)].map(([, parameter]) => parameter)
      const given = (operation.parameters ?? []).filter((one) => one.in === 'path').map((one) => one.name)
      t.same(given.sort(), wanted.sort(), `${name}: its parameters`)
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
        `${name} describes each`,
      )
      for (const scheme of operation.security.flatMap(Object.keys)) t.ok(schemes.includes(scheme), `${name}: ${scheme}`)
    }
  }
})

t.test('the OpenAPI document has every route and every error code', async (t) => {
  const api = await startTestApi(t)
  const document = publicDocument(routes(api.auth, api.messages), api.publicUrl) as Document
  t.equal(
    Object.values(document.paths).flatMap((methods) => Object.keys(methods)).length,
    routes(api.auth, api.messages).length,
    'each route is an operation of its own',
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

t.test('the API page loads nothing from elsewhere, shows every operation and can send it', async (t) => {
  const { gateway } = await startTestApi(t)
  const page = await gateway.app.inject('/docs')
  t.equal(page.statusCode, 200)
  t.match(page.headers, { 'content-security-policy': /default-src 'none'/, 'content-type': /^text\/html/ })
  const script = await gateway.app.inject('/docs.js')
  t.match(script.headers, { 'content-type': /^text\/javascript/ })
  for (const { body } of [page, script]) t.notMatch(body, /https?:\/\//)
  t.notMatch(script.body, /innerHTML/)

  // The script runs with a fake of those parts of a browser that it uses.
  const made: FakeNode[] = []
  const known = new Map(['token', 'title', 'description', 'operations'].map((id) => [id, new FakeNode()]))
  const document = {
    createElement: () => {
      const node = new FakeNode()
      made.push(node)
      return node
    },
    getElementById: (id: string) => known.get(id),
  }
  const sent: { url: string; init?: { method: string } }[] = []
  const fetched = async (url: string, init?: { method: string }) => {
    sent.push({ url, ...(init ? { init } : {}) })
    const { body, statusCode } = await gateway.app.inject(url === '/openapi.json' ? url : '/healthz')
    return { status: statusCode, text: async () => body, json: async () => JSON.parse(body) }
  }
  new Function('document', 'fetch', script.body)(document, fetched)
  const operations = known.get('operations')
  await until('the page shows its operations', () => (operations?.children.length ?? 0) > 0)
  t.equal(known.get('title')?.textContent, 'Borealis push API')
  const buttons = made.filter(({ listener }) => listener !== null)
  t.equal(buttons.length, operations?.children.length, 'each operation can be sent')
  for (const { listener } of buttons) listener?.()
  t.equal(sent.length, buttons.length + 1)
  t.ok(sent.some(({ url, init }) => url === '/healthz' && init?.method === 'GET'))
})

class FakeNode {
  value = ''
  textContent = ''
  children: unknown[] = []
  listener: (() => void) | null = null

  append(...nodes: unknown[]): void {
    this.children.push(...nodes)
  }

  addEventListener(_name: string, listener: () => void): void {
    this.listener = listener
  }
}
