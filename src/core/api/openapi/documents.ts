/** The documents of the public API and of the admin API. */

import { SCOPES_OF_SETTINGS, words } from '../../tenants/auth/tokens.js'
import { AUTH_PATH, TOKEN_PATH } from '../../tenants/settings-file.js'
import { type DocumentedRoute, openApiOf } from './document.js'

/** The version of the API, not of the program. */
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
        description: 'The client authenticates by a signed assertion (private_key_jwt), not by a secret.',
        flows: { clientCredentials: { tokenUrl: `${publicUrl}${TOKEN_PATH}`, scopes: Object.fromEntries(scopes) } },
      },
      accessToken: {
        type: 'http',
        scheme: 'bearer',
        bearerFormat: 'JWT',
        description: 'An access token of the token endpoint, or of `borealis admin token mint`.',
      },
    },
    allSecured: false,
  })
}

export function adminDocument(routes: readonly DocumentedRoute[]): object {
  return openApiOf(routes, {
    title: 'Borealis admin API',
    description: 'Projects, keys, credentials and the audit log, for operators and their tools.',
    version: VERSION,
    serverUrl: '/',
    securitySchemes: {
      credential: { type: 'http', scheme: 'bearer', description: 'A secret of `borealis admin credential create`.' },
    },
    allSecured: true,
  })
}
