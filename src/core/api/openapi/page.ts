/** The page at /docs: every operation of /openapi.json with a form that sends it. No library, nothing from elsewhere. */

export function docsPage(): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Borealis API</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
  code, pre, textarea, input { font: 14px/1.4 ui-monospace, monospace }
  details { border: 1px solid #bbb; border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem }
  summary { cursor: pointer }
  .method { display: inline-block; min-width: 4.5rem; font-weight: 700 }
  label { display: block; margin: .4rem 0 }
  input, textarea { width: 100%; box-sizing: border-box }
  textarea { min-height: 8rem }
  pre { background: #f3f3f3; padding: .6rem; overflow: auto; max-height: 24rem }
</style>
<h1 id="title">Borealis API</h1>
<p id="description"></p>
<p><a href="/openapi.json">/openapi.json</a></p>
<label>Bearer token, for operations that ask for one <input id="token" autocomplete="off" type="password"></label>
<main id="operations"></main>
<script src="/docs.js"></script>
</html>
`
}

/** Builds the page from the document. Everything is set as text, never as HTML. */
export function docsScript(): string {
  return `'use strict';
${element.toString()}
${exampleOf.toString()}
${typedIn.toString()}
${operationForm.toString()}
${showDocument.toString()}
showDocument();
`
}

interface Shown {
  summary: string
  operationId: string
  security: object[]
  parameters?: { name: string; in: string; required: boolean; description?: string }[]
  requestBody?: { content: Record<string, { schema: Schema }> }
  responses: Record<string, { description: string }>
}

interface Schema {
  type?: string
  const?: unknown
  enum?: unknown[]
  default?: unknown
  examples?: unknown[]
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema
  anyOf?: Schema[]
}

/** The part of the browser's document that the script uses. */
interface Node {
  value: string
  textContent: string | null
  append(...nodes: (Node | string)[]): void
  addEventListener(name: string, listener: () => void): void
}
declare const document: { createElement(tag: string): Node; getElementById(id: string): Node }

function element(tag: string, text = '', ...children: (Node | string)[]): Node {
  const node = document.createElement(tag)
  if (text !== '') node.textContent = text
  node.append(...children)
  return node
}

function exampleOf(schema: Schema): unknown {
  if (schema.const !== undefined) return schema.const
  if (schema.examples?.length) return schema.examples[0]
  if (schema.default !== undefined) return schema.default
  if (schema.enum) return schema.enum[0]
  if (schema.anyOf?.[0]) return exampleOf(schema.anyOf[0])
  if (schema.type === 'array') return [exampleOf(schema.items ?? {})]
  if (schema.type === 'object') {
    const entries = Object.entries(schema.properties ?? {}).filter(([name]) => schema.required?.includes(name))
    return Object.fromEntries(entries.map(([name, inner]) => [name, exampleOf(inner)]))
  }
  return schema.type === 'integer' || schema.type === 'number' ? 1 : schema.type === 'boolean' ? false : ''
}

/** The request as it was filled in. */
function typedIn(path: string, fields: { name: string; in: string; input: Node }[], token: string) {
  const query: string[] = []
  const headers: Record<string, string> = token === '' ? {} : { authorization: `Bearer ${token}` }
  let url = path
  for (const { name, in: place, input } of fields) {
    const text = input.value
    if (place === 'path') url = url.replace(`{${name}}`, encodeURIComponent(text))
    else if (text !== '' && place === 'query') query.push(`${name}=${encodeURIComponent(text)}`)
    else if (text !== '') headers[name] = text
  }
  return { url: query.length > 0 ? `${url}?${query.join('&')}` : url, headers }
}

function operationForm(path: string, method: string, operation: Shown): Node {
  const title = element('summary', '', element('code', `${method.toUpperCase()} ${path}`), ` ${operation.summary}`)
  const fields = (operation.parameters ?? []).map(({ name, in: place, required, description = '' }) => {
    const input = element('input')
    const label = element('label', `${name}${required ? ' (required)' : ''} ${description}`, input)
    return { name, in: place, input, label }
  })
  const schema = operation.requestBody?.content['application/json']?.schema
  const body = element('textarea')
  if (schema) body.value = JSON.stringify(exampleOf(schema), null, 2)
  const button = element('button', 'Send')
  const shown = element('pre', 'The answer comes here.')
  button.addEventListener('click', () => {
    const { url, headers } = typedIn(path, fields, document.getElementById('token').value)
    const init = { method: method.toUpperCase(), headers, ...(schema ? { body: body.value } : {}) }
    if (schema) headers['content-type'] = 'application/json'
    fetch(url, init).then(
      async (answer) => {
        shown.textContent = `${answer.status}\n${await answer.text()}`
      },
      (error: unknown) => {
        shown.textContent = String(error)
      },
    )
  })
  const answers = Object.entries(operation.responses).map(([status, { description }]) =>
    element('li', '', element('code', status), ` ${description}`),
  )
  const parts = [...fields.map(({ label }) => label), ...(schema ? [element('label', 'Body', body)] : [])]
  return element('details', '', title, ...parts, button, shown, element('ul', '', ...answers))
}

async function showDocument(): Promise<void> {
  const answer = await fetch('/openapi.json')
  const { info, paths } = (await answer.json()) as {
    info: { title: string; description: string }
    paths: Record<string, Record<string, Shown>>
  }
  document.getElementById('title').textContent = info.title
  document.getElementById('description').textContent = info.description
  const list = document.getElementById('operations')
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(methods)) list.append(operationForm(path, method, operation))
  }
}
