/** GET /openapi.json and /docs of a listener: the document, and a page to try it that loads nothing from elsewhere. */
import type { HttpServer } from '../server.js'
import { docsPage, docsScript } from './page.js'

/** Only what we serve, and nothing that somebody put into a name. */
const POLICY = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'"

/** `document` is made when it is asked for first: only then it is known where the service is reached. */
export function serveDocument({ app }: HttpServer, document: () => object): void {
  let text: string | null = null
  app.get('/openapi.json', async (_request, reply) => {
    text ??= JSON.stringify(document())
    return reply.type('application/json; charset=utf-8').send(text)
  })
  app.get('/docs', async (_request, reply) =>
    reply
      .type('text/html; charset=utf-8')
      .header('content-security-policy', POLICY)
      .header('x-content-type-options', 'nosniff')
      .send(docsPage()),
  )
  app.get('/docs.js', async (_request, reply) => reply.type('text/javascript; charset=utf-8').send(docsScript()))
}
