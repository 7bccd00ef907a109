import { CodedError } from '../../../../protocol/errors.js'
import type { AddressGuard } from './addresses.js'

const CHARACTERS_MAX = 2_048

export interface UrlRules {
  allowHttp: boolean
  guard: AddressGuard
}

/** As it is kept. Throws CodedError `invalid_request` or `webhook_address_refused`. */
export function checkWebhookUrl(text: string, { allowHttp, guard }: UrlRules): string {
  const refuse = (why: string) => new CodedError('invalid_request', `url ${why}`, { field: 'url' })
  if (text.length > CHARACTERS_MAX) throw refuse(`has more than ${CHARACTERS_MAX} characters`)
  const url = URL.canParse(text) ? new URL(text) : null
  if (!url) throw refuse('is none')
  if (url.protocol !== 'https:' && !(allowHttp && url.protocol === 'http:')) throw refuse('must be https')
  if (url.username || url.password) throw refuse('must have no user and no password')
  if (url.hash) throw refuse('must have no fragment')
  if (!guard.mayName(url.hostname)) throw new CodedError('webhook_address_refused', undefined, { field: 'url' })
  return url.href
}

/** What of it may stand in a log: its path and query may be secret. */
export const originOf = (url: string) => new URL(url).origin
