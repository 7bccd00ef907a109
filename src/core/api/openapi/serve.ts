/**
 * Serves the document of a listener at /openapi.json, and Swagger UI, which shows it, at /docs. The files of Swagger UI come
 * from its package: the page loads nothing from elsewhere, and works in a closed network.
 */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { FastifyReply } from 'fastify'
import type { HttpServer } from '../server.js'

const folder = dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'))

const FILES: Record<string, string> = {
  'swagger-ui.css': 'text/css; charset=utf-8',
  'swagger-ui-bundle.js': 'text/javascript; charset=utf-8',
  'favicon-32x32.png': 'image/png',
}

/** Swagger UI draws icons from data URLs. No script or style of the page is inline. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Borealis API</title>
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
`

/** "Try it out" asks the server that the page came from, whatever address the document names: the policy allows no other. */
const START = `'use strict'
addEventListener('load', async () => {
  const answer = await fetch('/openapi.json')
  const spec = { ...(await answer.json()), servers: [{ url: location.origin }] }
  SwaggerUIBundle({ spec, dom_id: '#swagger-ui', deepLinking: true, validatorUrl: null })
})
`

const CACHE_SECONDS = 3_600

/** @param document makes the document at the first request: before that, the address of the service is not known. */
export function serveDocument(server: HttpServer, document: () => object): void {
  let text: string | null = null
  server.get('/openapi.json', (reply) => {
    text ??= JSON.stringify(document())
    return reply.type('application/json; charset=utf-8').send(text)
  })
  const page = (reply: FastifyReply) => send(reply, 'text/html; charset=utf-8').send(PAGE)
  server.get('/docs', page)
  server.get('/docs/', page)
  server.get('/docs/start.js', (reply) => send(reply, 'text/javascript; charset=utf-8').send(START))
  for (const [name, type] of Object.entries(FILES)) {
    server.get(`/docs/${name}`, async (reply) => {
      const path = join(folder, name)
      const { size } = await stat(path)
      // As a stream: a file in memory for each slow reader would be megabytes.
      return send(reply, type)
        .header('content-length', size)
        .header('cache-control', `public, max-age=${CACHE_SECONDS}`)
        .send(createReadStream(path))
    })
  }
}

function send(reply: FastifyReply, type: string): FastifyReply {
  return reply.type(type).header('content-security-policy', POLICY).header('x-content-type-options', 'nosniff')
}
