/** The two documents: of the public API, and of the admin API. */

import { SCOPES_OF_SETTINGS, words } from '../../tenants/auth/tokens.js'
import { AUTH_PATH, TOKEN_PATH } from '../../tenants/settings-file.js'
import { type DocumentedRoute, openApiOf } from './document.js'

/** Of the API, not of the program. */
const VERSION = '1.0.0'

const MEANINGS: Record<string, string> = {
  'message:update': 'send, look at and cancel messages; change topics and end registrations',
  'project:read': 'look at the project, its registrations and counters',
}

export function publicDocument(routes: readonly DocumentedRoute[], publicUrl: string): object {
  const scopes = words(SCOPES_OF_SETTINGS).map((scope) => [scope, MEANINGS[scope] ?? 'no meaning here; ANS has it'])
  return openApiOf(routes, {
    title: 'Borealis push API',
    description: `Compatible with the Aurora Notification Service. Tokens: ${TOKEN_PATH}; discovery below ${AUTH_PATH}.`,
    version: VERSION,
    serverUrl: publicUrl,
    securitySchemes: {
      serviceAccount: {
        type: 'oauth2',
        flows: { clientCredentials: { tokenUrl: `${publicUrl}${TOKEN_PATH}`, scopes: Object.fromEntries(scopes) } },
      },
    },
    allSecured: false,
  })
}

export function adminDocument(routes: readonly DocumentedRoute[]): object {
  return openApiOf(routes, {
    title: 'Borealis admin API',
    description: 'Projects, keys, credentials and who did what, for operators and their tools.',
    version: VERSION,
    serverUrl: '/',
    securitySchemes: {
      credential: { type: 'http', scheme: 'bearer', description: 'borealis admin credential create' },
    },
    allSecured: true,
  })
}
