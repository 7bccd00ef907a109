/** Compares answers of the API with its OpenAPI document. ask() does so for each request of a test. */
import { Value } from 'typebox/value'
import { openApiOf } from '../../src/core/api/openapi/document.js'
import { routes } from '../../src/core/api/public/gateway.js'
import type { MessageFormat } from '../../src/core/domain/message.js'
import type { AuthSettings } from '../../src/core/tenants/auth/settings.js'

interface Documented {
  paths: Record<string, Record<string, { responses: Record<string, { description: string }> }>>
}

const unused = { title: '', description: '', version: '1', serverUrl: '/', allSecured: false }

/** Returns the difference between an answer and its documentation in words. Null: no difference, or no known route. */
export function undocumented(
  { auth, messages }: { auth: AuthSettings; messages: MessageFormat },
  asked: { method: string; url: string },
  answer: { statusCode: number; body: unknown },
): string | null {
  const path = asked.url.replace(/\?.*/s, '').replaceAll(/\/+/g, '/')
  const route = routes(auth, messages).find(({ method, url }) => method === asked.method && patternOf(url).test(path))
  if (!route) return null
  const name = `${route.method} ${route.url} ${answer.statusCode}`
  const good = route.operation.answers[answer.statusCode]
  if (good) {
    const [error] = Value.Errors(good.body, answer.body)
    return error ? `${name}: ${error.instancePath} ${error.message}: ${JSON.stringify(answer.body)}` : null
  }
  const { paths } = openApiOf([route], { ...unused, securitySchemes: { token: {} } }) as Documented
  const operation = Object.values(Object.values(paths)[0] ?? {})[0]
  const description = operation?.responses[answer.statusCode]?.description ?? ''
  const { error } = answer.body as { error: string | { code: string } }
  const code = typeof error === 'string' ? error : error.code
  return description.includes(`\`${code}\``) ? null : `${name}: the code ${code} is not documented`
}

function patternOf(url: string): RegExp {
  const text = url
    .replaceAll('::', '\u0000')
    .replaceAll(/:[A-Za-z]+/g, '[^/]{1,512}')
    .replaceAll('\u0000', ':')
  return new RegExp(`^${text}$`)
}
