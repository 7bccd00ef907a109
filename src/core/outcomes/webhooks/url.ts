import { CodedError } from '../../../../protocol/errors.js'
import type { AddressGuard } from './addresses.js'

export const WEBHOOK_URL_CHARACTERS_MAX = 2_048

export interface UrlRules {
  allowHttp: boolean
  guard: AddressGuard
}

/** Returns the normalised url. Throws CodedError `invalid_request` or `webhook_address_refused`. */
export function checkWebhookUrl(text: string, { allowHttp, guard }: UrlRules): string {
  const refuse = (problem: string) => new CodedError('invalid_request', `url ${problem}`, { field: 'url' })
  const url = URL.canParse(text) ? new URL(text) : null
  if (!url) throw refuse('must be an absolute URL such as https://example.com/hook')
  if (url.protocol !== 'https:' && !(allowHttp && url.protocol === 'http:')) throw refuse('must be https')
  if (url.username || url.password) throw refuse('must have no user and no password')
  if (url.hash) throw refuse('must have no fragment')
  if (!guard.mayName(url.hostname)) throw new CodedError('webhook_address_refused', undefined, { field: 'url' })
  return url.href
}

/** The part of a url that may be logged, since path and query may be secret. Empty if the text is not a url. */
export const originOf = (url: string) => (URL.canParse(url) ? new URL(url).origin : '')
