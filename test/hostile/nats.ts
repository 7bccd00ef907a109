/**
 * An attack with stolen NATS credentials: random and mutated publishes, requests and subscriptions of a publisher, a
 * subscriber or a transport on a real nats-server with the product's accounts and permissions.
 *
 * The store is compared before and after each round, and every message that the attacker hears is searched for content that
 * belongs to others. Each finding is an escape.
 */
import { type NatsConnection, connect as natsConnect, headers as natsHeaders } from 'nats'
import type { Broker } from '../../src/nats/broker.js'
import { PUBLISHER_PROJECT, startNats, type TestNats, type TestRole } from '../support/nats.js'
import { HEADERS, TARGETS } from '../support/nats-attacks.js'
import { differences, pictureOf, type StorePicture } from '../support/store-picture.js'
import { below, noise, pick, type Random, streamOf, weighted } from './chance.js'

export const ATTACKERS = ['publisher', 'subscriber', 'transport'] as const
export type Attacker = (typeof ATTACKERS)[number]

export interface NatsAttackOptions {
  as: Attacker
  operations: number
  seed: number
  /** With other credentials than those of `as`, to see that the search finds something. */
  user?: TestRole
  onProgress?(text: string): void
}

export interface NatsAttackResult {
  ok: boolean
  as: Attacker
  operations: number
  /** Changes of the store that this user must not make, and contents of others that it heard. */
  escapes: number
  firstEscapes: string[]
  /** Answers and messages that the attacker got; many of them are its own. */
  heard: number
  /** Operations that nats-server refused by the user's permissions. */
  refused: number
  natsServer: string
  /** Operations that were left out, because this nats-server is known not to survive them. */
  leftOut: string[]
  seconds: number
  seed: number
}

interface Rights {
  role: TestRole
  /** Subjects that this user is meant to use. */
  subjects: readonly string[]
  /** Streams to which it may add records, with the subjects of these records. */
  writes: Readonly<Record<string, RegExp>>
  /** Consumers whose position it may move. */
  consumers: readonly string[]
  /** Subjects that it is meant to hear. */
  listens: readonly string[]
  /** Contents of the store that it may hear. */
  hears: readonly Content[]
}

const INSTANCE = 'one'
const OWN_READER = `PUSH_EVENTS.reader-${PUBLISHER_PROJECT}`
const ROUND_OPERATIONS = 2_000
const SUBSCRIPTIONS_MAX = 300
/** JetStream works on what it was sent for a moment after the server has passed it on. */
const SETTLE_MS = 400

/** Kinds of content by their owner. Each stored or sent text names its kind. */
const CONTENTS = [
  ...['credentials', 'projects', 'feeds', 'audit', 'ingress', 'messages', 'events', 'outcomes', 'deadLetters'],
  ...['toOtherInstance', 'toCore', 'ownOutcomes'],
  // Every transport may read these (SECURITY.md, "Known weaknesses").
  ...['queue', 'devices', 'sessions', 'workers', 'broadcast', 'revoked', 'store'],
] as const
type Content = (typeof CONTENTS)[number]

const READABLE = [
  'QUEUE_0',
  'QUEUE_1',
  'KV_SESSIONS',
  'KV_DEVICES',
  'KV_WORKERS',
  'KV_REVOKED',
  'KV_STORE',
  'BROADCAST',
]

const RIGHTS: Record<Attacker, Rights> = {
  publisher: {
    role: 'publisher',
    subjects: [`push.send.${PUBLISHER_PROJECT}`],
    writes: { INGRESS: new RegExp(`^push\\.send\\.${PUBLISHER_PROJECT}$`) },
    consumers: [],
    listens: [],
    hears: [],
  },
  subscriber: {
    role: 'subscriber',
    subjects: [
      `$JS.API.CONSUMER.MSG.NEXT.${OWN_READER}`,
      `$JS.API.CONSUMER.INFO.${OWN_READER}`,
      `$JS.ACK.${OWN_READER}.1.1.1.1.0`,
    ],
    writes: {},
    consumers: [`reader-${PUBLISHER_PROJECT}`],
    listens: [`push.event.${PUBLISHER_PROJECT}.*`],
    hears: ['ownOutcomes'],
  },
  transport: {
    role: `transport-${INSTANCE}`,
    subjects: [
      ...['rx.router', 'settle.queued', 'device.request', 'session.moved', `receipt.1.${INSTANCE}.w.0`],
      ...[`answer.${INSTANCE}.x.1`, `ctl.${INSTANCE}.w`, '$KV.SESSIONS.1.dev_b', `$KV.WORKERS.${INSTANCE}.w`],
      ...READABLE.flatMap((stream) => [`$JS.API.DIRECT.GET.${stream}`, `$JS.API.STREAM.MSG.GET.${stream}`]),
      ...['$JS.API.DIRECT.GET.KV_SESSIONS.$KV.SESSIONS.1.dev_a', '$JS.API.STREAM.INFO.BROADCAST'],
    ],
    writes: {
      KV_SESSIONS: /^\$KV\.SESSIONS\./,
      KV_WORKERS: new RegExp(`^\\$KV\\.WORKERS\\.${INSTANCE}\\.[^.]+$`),
      RECEIPTS: new RegExp(`^receipt.[^.]+.${INSTANCE}.`),
    },
    consumers: [],
    listens: [`tx.${INSTANCE}.*`, `ctl.${INSTANCE}.*`, 'broadcast.>', '$KV.REVOKED.>'],
    hears: ['queue', 'devices', 'sessions', 'workers', 'broadcast', 'revoked', 'store'],
  },
}

const FILTERS = [
  ...['>', '*', '*.>', '*.*', '*.*.*', '_INBOX.>', '_R_.>', '$JS.>', '$JS.API.>', '$KV.>', '$SYS.>', 'push.>'],
  ...['push.event.*.*', 'push.send.>', 'msg.>', 'queued.>', 'event.>', 'audit.>', 'tx.>', 'ctl.>', 'rx.>', 'answer.>'],
  ...['broadcast.>', 'tx.two.*', 'ctl.two.*', 'ended', 'session.moved', 'settle.queued', 'device.request'],
]

const BODIES = [
  ...[
    '',
    '+ACK',
    '-NAK',
    '+NXT {"batch":10}',
    '+TERM',
    '{}',
    '{"seq":1}',
    '{"batch":10,"no_wait":true}',
    '{"batch":0}',
  ],
  ...['{"last_by_subj":"$KV.CREDENTIALS.cred_a"}', '{"seq":1,"next_by_subj":">"}', '{"filter":">"}', '{"name":"x"}'],
  '{"stream_name":"KV_CREDENTIALS","config":{"deliver_subject":"_INBOX.publisher.x","ack_policy":"none"}}',
  '{"stream_name":"BROADCAST","config":{"deliver_subject":"$KV.CREDENTIALS.cred_a","ack_policy":"none"}}',
  '{"stream_name":"MESSAGES_0","config":{"durable_name":"thief","ack_policy":"explicit"}}',
  '{"name":"AUDIT","subjects":["audit.*"],"max_msgs":1}',
  '{"name":"THIEF","subjects":["thief.>"],"sources":[{"name":"KV_CREDENTIALS"}],"mirror":{"name":"MESSAGES_0"}}',
]

const VERBS = [
  ...['STREAM.INFO', 'STREAM.PURGE', 'STREAM.DELETE', 'STREAM.UPDATE', 'STREAM.CREATE', 'STREAM.MSG.GET'],
  ...['STREAM.MSG.DELETE', 'STREAM.SNAPSHOT', 'STREAM.RESTORE', 'STREAM.NAMES', 'STREAM.LIST', 'DIRECT.GET'],
  ...['CONSUMER.CREATE', 'CONSUMER.NAMES', 'CONSUMER.LIST', 'STREAM.PEER.REMOVE', 'STREAM.LEADER.STEPDOWN'],
]
const STREAMS = [
  ...['MESSAGES_0', 'QUEUE_1', 'EVENTS_1', 'BROADCAST', 'EXPIRY', 'SCHEDULE', 'INGRESS', 'DEAD_LETTERS', 'PUSH_EVENTS'],
  ...['AUDIT', 'REGISTRATIONS', 'KV_PROJECTS', 'KV_CREDENTIALS', 'KV_FEEDS', 'KV_DEVICES', 'KV_SESSIONS', 'KV_REVOKED'],
]

/**
 * nats-server 2.9 takes a reply subject with a wildcard for a service import. From then on it answers reads by a loop that
 * takes all memory. 2.15.3 survives such a reply. The versions in between were not tried.
 */
const WILDCARD_REPLIES = 'reply subjects with wildcards'
const diesOfWildcardReplies = (version: string): boolean => /^2\.9\./.test(version)

const textOf = (content: Content) => Buffer.from(`secret:${content}:`)

/** Rejects if no nats-server can be had. */
export async function attackNats(options: NatsAttackOptions): Promise<NatsAttackResult> {
  const { as, operations, seed, onProgress = () => undefined } = options
  const startedMs = performance.now()
  const ends: (() => unknown)[] = []
  try {
    const nats = await startNats({ teardown: (end) => void ends.push(end) }, { instances: [INSTANCE, 'two'] })
    const rights = options.user === undefined ? RIGHTS[as] : { ...RIGHTS[as], role: options.user }
    const attack = new NatsAttack(nats, rights, streamOf(seed, 0))
    await attack.open()
    ends.push(() => attack.close())
    // The round in which an escape was found is the last.
    for (let done = 0; done < operations && attack.escapes.length === 0; ) {
      const count = Math.min(ROUND_OPERATIONS, operations - done)
      await attack.round(count)
      done += count
      onProgress(`as ${as}: ${done} of ${operations} operations, ${attack.escapes.length} escapes`)
    }
    const { escapes, heard, refused, natsServer } = attack
    const leftOut = diesOfWildcardReplies(natsServer) ? [WILDCARD_REPLIES] : []
    const seconds = Math.round((performance.now() - startedMs) / 1000)
    const findings = { escapes: escapes.length, firstEscapes: escapes.slice(0, 20) }
    return { ok: escapes.length === 0, as, operations, ...findings, heard, refused, natsServer, leftOut, seconds, seed }
  } finally {
    for (const end of ends.reverse()) await end()
  }
}

class NatsAttack {
  readonly escapes: string[] = []
  heard = 0
  refused = 0
  private all!: Broker
  private connection!: NatsConnection
  private subscriptions = 0

  constructor(
    private readonly nats: TestNats,
    private readonly rights: Rights,
    private readonly random: Random,
  ) {}

  async open(): Promise<void> {
    this.all = await this.nats.brokerAs('unrestricted')
    await this.fill()
    const { url, user, password } = this.nats.settingsAs(this.rights.role)
    this.connection = await natsConnect({ servers: url, user, pass: password, inboxPrefix: this.inbox })
    void this.countRefusals()
    for (const filter of [`${this.inbox}.>`, ...this.rights.listens, ...FILTERS]) this.subscribe(filter)
  }

  async close(): Promise<void> {
    await this.connection.close()
  }

  /** Talks as the other parts do, attacks, and compares the store. */
  async round(operations: number): Promise<void> {
    await this.chatter()
    await this.settle()
    const before = await pictureOf(this.all)
    for (let n = 0; n < operations; n++) {
      this.operate()
      if (this.connection.isClosed())
        throw new Error('the connection of the attacker is closed: the attack proves nothing')
      if (n % 200 === 199) await this.connection.flush()
    }
    await this.settle()
    await this.compare(before, await pictureOf(this.all))
  }

  get natsServer(): string {
    return this.connection.info?.version ?? ''
  }

  private get inbox(): string {
    return `_INBOX.${this.rights.role}`
  }

  /** A store with content of every owner. */
  private async fill(): Promise<void> {
    const { all } = this
    const consumer = { ackWaitMs: 30_000, pendingMax: 100 }
    for (const project of [PUBLISHER_PROJECT, 'other']) {
      const filter = `push.event.${project}.*`
      await all.log('PUSH_EVENTS').createConsumer({ ...consumer, durable: `reader-${project}`, filter })
    }
    await all.log('INGRESS').createConsumer({ ...consumer, durable: 'ingress' })
    await all.table('CREDENTIALS').put('cred_a', textOf('credentials'))
    await all.table('PROJECTS').put('other', textOf('projects'))
    await all.table('FEEDS').put('other', textOf('feeds'))
    await all.table('DEVICES').put('1.dev_a', textOf('devices'))
    await all.table('SESSIONS').put('1.dev_a', textOf('sessions'))
    await all.table('WORKERS').put('two.w', textOf('workers'))
    await all.table('REVOKED').put('device.d', textOf('revoked'))
    await all.log('AUDIT').append('audit.other', textOf('audit'))
    await all.log('DEAD_LETTERS').append('push.dead.other', textOf('deadLetters'))
    await all.log('MESSAGES_1').append('msg.1.dev_a.1', textOf('messages'))
    await all.log('EVENTS_1').append('event.1.1.final', textOf('events'))
  }

  /** Messages of other parts, while the attacker listens. */
  private async chatter(): Promise<void> {
    const { all } = this
    await all.log('INGRESS').append('push.send.other', textOf('ingress'))
    await all.log('PUSH_EVENTS').append('push.event.other.delivered', textOf('outcomes'))
    await all.log('PUSH_EVENTS').append(`push.event.${PUBLISHER_PROJECT}.delivered`, textOf('ownOutcomes'))
    await all.log('QUEUE_1').append('queued.1.dev_a', textOf('queue'))
    await all.log('BROADCAST').append('broadcast.other.app.x', textOf('broadcast'))
    for (const subject of ['tx.two.w', 'ctl.two.w']) all.bus.publish(subject, textOf('toOtherInstance'))
    for (const subject of ['rx.other', 'answer.two.x.1', '_INBOX.core.x.1', '_INBOX.admin.x.1', 'ended']) {
      all.bus.publish(subject, textOf('toCore'))
    }
  }

  private operate(): void {
    const { random } = this
    if (this.subscriptions < SUBSCRIPTIONS_MAX && random() < 0.02) {
      this.subscribe(this.mutated(pick(random, FILTERS)))
      return
    }
    const drawn = this.reply()
    const isDeadly = diesOfWildcardReplies(this.natsServer) && /[*>]/.test(drawn)
    const reply = isDeadly ? '' : drawn
    const headers = natsHeaders()
    const hasHeaders = random() < 0.3
    if (hasHeaders) for (const [key, value] of Object.entries(pick(random, HEADERS))) headers.set(key, value)
    const body = random() < 0.1 ? noise(random, below(random, 64)) : pick(random, BODIES)
    this.connection.publish(this.subject(), body, { ...(reply && { reply }), ...(hasHeaders && { headers }) })
  }

  private subject(): string {
    const { random } = this
    const own = pick(random, this.rights.subjects)
    const make = weighted(random, [
      { weight: 40, item: () => own },
      { weight: 20, item: () => pick(random, TARGETS) },
      { weight: 20, item: () => `$JS.API.${pick(random, VERBS)}.${pick(random, STREAMS)}` },
      { weight: 10, item: () => this.mutated(own) },
      { weight: 10, item: () => this.mutated(pick(random, TARGETS)) },
    ])
    return make()
  }

  private reply(): string {
    const { random } = this
    const make = weighted(random, [
      { weight: 15, item: () => '' },
      { weight: 40, item: () => pick(random, TARGETS) },
      { weight: 20, item: () => `$JS.API.${pick(random, VERBS)}.${pick(random, STREAMS)}` },
      { weight: 15, item: () => `${this.inbox}.${below(random, 10)}` },
      { weight: 10, item: () => this.mutated(pick(random, TARGETS)) },
    ])
    return make()
  }

  /** A neighbour of the subject: a token replaced, added, taken out or doubled. */
  private mutated(subject: string): string {
    const { random } = this
    const tokens = subject.split('.')
    const at = below(random, tokens.length)
    const token = pick(random, ['*', '>', 'x', 'other', 'two', '$JS', '$SYS', '_R_', 'CORE', tokens[at] ?? 'x'])
    const changed = weighted(random, [
      { weight: 3, item: [...tokens.slice(0, at), token, ...tokens.slice(at + 1)] },
      { weight: 2, item: [...tokens.slice(0, at), token, ...tokens.slice(at)] },
      { weight: 1, item: tokens.length > 1 ? [...tokens.slice(0, at), ...tokens.slice(at + 1)] : tokens },
    ])
    return changed.join('.')
  }

  private subscribe(filter: string): void {
    this.subscriptions++
    const queue = this.random() < 0.3 ? { queue: pick(this.random, ['core', 'x']) } : {}
    this.connection.subscribe(filter, {
      ...queue,
      callback: (error, message) => {
        if (error) return
        this.heard++
        this.listen(filter, message.subject, Buffer.from(message.data).toString('latin1'))
      },
    })
  }

  private listen(filter: string, subject: string, body: string): void {
    // JetStream answers MSG.GET with the body in base64.
    const texts = [
      body,
      ...[...body.matchAll(/"data":"([^"]+)"/g)].map(([, data = '']) => Buffer.from(data, 'base64').toString()),
    ]
    for (const content of CONTENTS) {
      if (this.rights.hears.includes(content)) continue
      if (texts.some((text) => text.includes(`secret:${content}:`)))
        this.escapes.push(`heard ${content} at ${subject}, subscribed as ${filter}`)
    }
  }

  private async compare(before: StorePicture, after: StorePicture): Promise<void> {
    for (const line of differences(before, after)) {
      const [stream = '', rest = ''] = line.split(': ')
      const isRecords = /^(firstSequence|lastSequence|messages) /.test(rest)
      if (isRecords && this.rights.writes[stream]) continue
      if (rest.startsWith('consumers ') && this.isOwnConsumer(before, after, stream)) continue
      this.escapes.push(line)
    }
    // The attacker may have deleted what would be read next.
    if (this.escapes.length > 0) return
    const { lastSequence } = await this.all.log('INGRESS').state()
    for (const [stream, allowed] of Object.entries(this.rights.writes)) {
      const first = (before[stream]?.lastSequence ?? 0) + 1
      await this.checkRecords(stream, first, after[stream]?.lastSequence ?? 0, allowed)
    }
    // As a core does, which takes the messages of publishers.
    await this.all.log('INGRESS').purge('push.send.*', lastSequence + 1)
  }

  private isOwnConsumer(before: StorePicture, after: StorePicture, stream: string): boolean {
    const others = (picture: StorePicture) => {
      const all = Object.entries(picture[stream]?.consumers ?? {})
      return JSON.stringify(all.filter(([name]) => !this.rights.consumers.includes(name)))
    }
    return others(before) === others(after)
  }

  private async checkRecords(stream: string, first: number, last: number, allowed: RegExp): Promise<void> {
    const log = this.all.log(stream)
    for (let from = first; from <= last; ) {
      const page = Array.from({ length: Math.min(100, last - from + 1) }, (_, i) => log.at(from + i))
      for (const record of await Promise.all(page)) {
        if (record && !allowed.test(record.subject)) this.escapes.push(`${stream}: a record at ${record.subject}`)
      }
      from += page.length
    }
  }

  private async countRefusals(): Promise<void> {
    for await (const { data } of this.connection.status()) if (/permission/i.test(String(data))) this.refused++
  }

  private async settle(): Promise<void> {
    await this.connection.flush()
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS))
    await this.connection.flush()
  }
}
