/** The settings file of an app server, in the format of the Aurora Notification Service: YAML with nine quoted strings. */
import { stringify } from 'yaml'
import type { AuthSettings } from './auth/settings.js'
import { SCOPES_OF_SETTINGS } from './auth/tokens.js'

export interface SettingsFile {
  push_notification_system: {
    project_id: string
    push_public_address: string
    /** Ends with a slash. */
    api_url: string
    client_id: string
    scopes: string
    audience: string
    token_url: string
    /** PKCS #8, PEM. */
    private_key: string
    key_id: string
  }
}

export const API_PATH = '/push/public/api/v1/'
/** Path of the token service. The public URL with this path is the issuer in the discovery documents. */
export const AUTH_PATH = '/auth/public'
export const TOKEN_PATH = `${AUTH_PATH}/oauth2/token`

export interface SettingsSource {
  project: string
  clientId: string
  keyId: string
  privateKey: string
  /** Has no slash at the end. */
  publicUrl: string
  auth: Pick<AuthSettings, 'audience'>
}

export function settingsFileOf({
  project,
  clientId,
  keyId,
  privateKey,
  publicUrl,
  auth,
}: SettingsSource): SettingsFile {
  return {
    push_notification_system: {
      project_id: project,
      push_public_address: publicUrl,
      api_url: `${publicUrl}${API_PATH}`,
      client_id: clientId,
      scopes: SCOPES_OF_SETTINGS,
      audience: auth.audience,
      token_url: `${publicUrl}${TOKEN_PATH}`,
      private_key: privateKey,
      key_id: keyId,
    },
  }
}

export function settingsYaml(file: SettingsFile): string {
  return stringify(file, { defaultStringType: 'QUOTE_DOUBLE', defaultKeyType: 'PLAIN', lineWidth: 0 })
}
