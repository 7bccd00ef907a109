/**
 * Asks nats-server whether this process may use the subjects that its part needs. nats-server answers a subscription or a
 * message without a permission with an error that belongs to no request, so without this check a process would start,
 * say that it is ready, and do nothing.
 */
import { type Broker, BrokerError } from '../broker.js'
import { type NatsUser, permissionsOf } from './permissions.js'

/** No stream has this name: a stream refuses a message that expects it, and stores nothing. */
const HEADERS = { 'Nats-Expected-Stream': 'borealis-probe' }
/** Not JSON: the API of JetStream refuses it, whatever the request. */
const BODY = Buffer.from('{')

/** Throws BrokerError `unavailable` that names the subjects, if the user of this process lacks a permission. */
export async function requirePermissions(broker: Broker, user: NatsUser, split: number): Promise<void> {
  const { publish, subscribe } = permissionsOf(user, split)
  const { bus } = broker
  const subscriptions = subscribe.map((subject) => bus.subscribe(subject, () => undefined))
  for (const subject of Array.isArray(publish) ? publish : publish.allow) {
    const probe = probeOf(subject)
    if (probe !== null) bus.publish(probe, BODY, { headers: HEADERS })
  }
  await broker.flush()
  for (const subscription of subscriptions) subscription.unsubscribe()
  const denied = broker.denied()
  if (denied.length === 0) return
  const name = user.user === '' ? 'this process' : `the NATS user ${user.user}`
  throw new BrokerError(
    'unavailable',
    `${name} may not do what a ${user.role} needs: ${denied.join(', ')}. Give it the permissions of docs/operate/install.md`,
  )
}

/** A subject below a pattern that no part listens to. Null for a subject without wildcards, which others listen to. */
export function probeOf(pattern: string): string | null {
  if (!/[*>]/.test(pattern)) return pattern.startsWith('$JS.API.') ? pattern : null
  return pattern.replaceAll('*', 'probe').replace(/>$/, 'probe')
}
