/**
 * Service links: variables that Kubernetes and Docker set in each container for every service beside it. For a service
 * named `borealis` or `borealis-transport` they begin like our settings, and some have the names of settings, such as
 * `BOREALIS_TRANSPORT_PORT=tcp://10.0.0.7:8090`. They are recognised by name and value together, so that a misspelt
 * setting is still refused.
 */
import { isIP } from 'node:net'

const URL_OF_PORT = /^(tcp|udp|sctp):\/\/\S+:\d+$/

const FORMS: readonly { name: RegExp; value: (text: string) => boolean }[] = [
  { name: /_SERVICE_HOST$/, value: (text) => isIP(text) !== 0 },
  { name: /_SERVICE_PORT(_[A-Z0-9_]+)?$/, value: (text) => /^\d+$/.test(text) },
  { name: /_PORT(_\d+_(TCP|UDP|SCTP))?$/, value: (text) => URL_OF_PORT.test(text) },
  { name: /_PORT_\d+_(TCP|UDP|SCTP)_PROTO$/, value: (text) => /^(tcp|udp|sctp)$/.test(text) },
  { name: /_PORT_\d+_(TCP|UDP|SCTP)_PORT$/, value: (text) => /^\d+$/.test(text) },
  { name: /_PORT_\d+_(TCP|UDP|SCTP)_ADDR$/, value: (text) => isIP(text) !== 0 },
]

export function isServiceLink(name: string, text: string): boolean {
  return FORMS.some((form) => form.name.test(name) && form.value(text))
}

/** The names that begin like a setting and are ignored. */
export function serviceLinksIn(environment: Readonly<Record<string, string | undefined>>): string[] {
  return Object.entries(environment).flatMap(([name, text]) =>
    name.startsWith('BOREALIS_') && text !== undefined && isServiceLink(name, text) ? [name] : [],
  )
}
