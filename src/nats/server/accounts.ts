/**
 * The accounts of nats-server: one for each trust domain, with every subject that may cross between accounts.
 *
 * Permissions alone do not separate users. nats-server checks the subject of a message against them, but not its reply
 * subject, and the answers of JetStream are valid requests. Inside one account, a publisher that names
 * `$JS.API.STREAM.PURGE.AUDIT` as its reply subject purges the audit log. Between accounts, a reply subject belongs to the
 * account of the requester, where no service listens that it could harm.
 */
import {
  ingressSubject,
  OUTCOME_EVENTS_STREAM,
  outcomeEventsFilter,
  readerDurable,
} from '../../../protocol/subjects.js'
import { type NatsUser, permissionsOf, transportSubjects } from './permissions.js'

/** The account that owns JetStream, for core processes and operators. */
export const CORE_ACCOUNT = 'CORE'

/** The subjects of the account CORE that one other account may use. */
interface Grants {
  /** Requests that CORE answers, with one message (`single`) or several (`stream`). */
  services: { subject: string; response: 'single' | 'stream' }[]
  /** Messages that CORE publishes. */
  streams: string[]
}

interface Offer {
  service?: string
  stream?: string
  response_type?: 'stream'
}

interface Export extends Offer {
  accounts: string[]
}

interface Import {
  service?: { account: string; subject: string }
  stream?: { account: string; subject: string }
  to?: string
}

interface AccountConfig {
  jetstream?: 'enabled'
  users: object[]
  exports?: Export[]
  imports?: Import[]
}

/** A subject of CORE without a subscriber. */
const NOBODY = 'nobody.serves.this'

/**
 * nats-server gives an account without JetStream the whole JetStream API of the system account, so that it can answer
 * "JetStream is not enabled". An import of this one subject replaces that API, and the account has none.
 */
const API_OF_OTHERS = '$JS.API.INFO'

/** The `accounts` block of a configuration file. */
export function accountsOf(users: readonly NatsUser[], split: number): Record<string, AccountConfig> {
  const exports = new Exports()
  const accounts: Record<string, AccountConfig> = { [CORE_ACCOUNT]: { jetstream: 'enabled', users: [] } }
  for (const user of users) {
    const name = accountOf(user)
    const account = accounts[name] ?? { users: [], imports: importsOf(name, grantsOf(user, split), exports) }
    accounts[name] = account
    account.users.push({ user: user.user, password: user.password, permissions: permissionsOf(user, split) })
  }
  return { ...accounts, [CORE_ACCOUNT]: { ...(accounts[CORE_ACCOUNT] as AccountConfig), exports: exports.all() } }
}

/**
 * The publisher and the subscriber of a project have separate accounts, because neither may do what the other may. So have
 * transport instances whose users name them.
 */
export function accountOf(user: NatsUser): string {
  switch (user.role) {
    case 'core':
    case 'admin':
    case 'unrestricted':
    case 'legacyTransport':
      return CORE_ACCOUNT
    case 'transport':
      return user.instance === undefined ? 'TRANSPORT' : `TRANSPORT_${user.instance}`
    case 'publisher':
      return `PUBLISHER_${user.project}`
    case 'subscriber':
      return `SUBSCRIBER_${user.project}`
  }
}

function grantsOf(user: NatsUser, split: number): Grants {
  switch (user.role) {
    case 'transport': {
      const { services, streams } = transportSubjects(user.instance ?? '*', split)
      return { services: services.map((subject) => ({ subject, response: 'single' })), streams }
    }
    case 'publisher':
      return { services: [{ subject: ingressSubject(user.project), response: 'single' }], streams: [] }
    case 'subscriber': {
      const durable = `${OUTCOME_EVENTS_STREAM}.${readerDurable(user.project)}`
      return {
        services: [
          { subject: `$JS.API.CONSUMER.INFO.${durable}`, response: 'single' },
          { subject: `$JS.API.CONSUMER.MSG.NEXT.${durable}`, response: 'stream' },
          { subject: `$JS.ACK.${durable}.>`, response: 'single' },
        ],
        streams: [outcomeEventsFilter(user.project)],
      }
    }
    default:
      return { services: [], streams: [] }
  }
}

function importsOf(name: string, { services, streams }: Grants, exports: Exports): Import[] {
  exports.add(name, { service: NOBODY })
  for (const { subject, response } of services) {
    exports.add(name, { service: subject, ...(response === 'stream' && { response_type: 'stream' }) })
  }
  for (const subject of streams) exports.add(name, { stream: subject })
  return [
    { service: { account: CORE_ACCOUNT, subject: NOBODY }, to: API_OF_OTHERS },
    ...services.map(({ subject }) => ({ service: { account: CORE_ACCOUNT, subject } })),
    ...streams.map((subject) => ({ stream: { account: CORE_ACCOUNT, subject } })),
  ]
}

/** The exports of CORE with the accounts that may import them. Each subject appears once. */
class Exports {
  readonly #accounts = new Map<string, string[]>()

  add(account: string, offer: Offer): void {
    const key = JSON.stringify(offer)
    this.#accounts.set(key, [...(this.#accounts.get(key) ?? []), account])
  }

  all(): Export[] {
    return [...this.#accounts].map(([offer, accounts]) => ({ ...(JSON.parse(offer) as Offer), accounts }))
  }
}
