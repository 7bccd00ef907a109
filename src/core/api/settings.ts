/** Settings of the public context: the gateway, its tokens, enrolment, and the limits of messages and devices. */
import Type, { type Static } from 'typebox'

export const HttpSettings = Type.Object(
  {
    host: Type.String({ default: '127.0.0.1', description: 'Address the HTTP API listens on.' }),
    port: Type.Integer({ default: 8080, minimum: 0, maximum: 65535, description: 'Port; 0: any free one.' }),
    publicUrl: Type.String({
      default: '',
      pattern: '^(https?://[^\\s?#]+)?$',
      description:
        'Where app servers reach the API, such as https://push.example.com. Settings files, discovery documents and tokens contain it. Default: where it listens.',
    }),
    bodyBytesMax: Type.Integer({
      default: 512 * 1024,
      minimum: 1024,
      description: 'Longest request body. 1,000 registrationIds and a whole message need about 200 KiB.',
    }),
    batchBytesMax: Type.Integer({
      default: 8 * 1024 * 1024,
      minimum: 1024,
      description: 'Longest body of a batch. 1,000 messages of the usual size need less than 1 MiB.',
    }),
    largeBodiesBytesMax: Type.Integer({
      default: 64 * 1024 * 1024,
      minimum: 1024,
      description:
        'Most bytes of all request bodies over 64 KiB that are being received or processed; beyond it, requests are answered `overloaded`.',
    }),
    requestTimeoutMs: Type.Integer({
      default: 10_000,
      minimum: 100,
      description: 'A request, its body included, has to arrive within this time.',
    }),
    headersTimeoutMs: Type.Integer({ default: 5_000, minimum: 100, description: 'Its headers within this time.' }),
    trustedProxies: Type.String({
      default: '',
      description:
        'Addresses and networks of reverse proxies, separated by commas. The service takes the address of a client from their X-Forwarded-For header, and from that of no other peer.',
    }),
    keepAliveTimeoutMs: Type.Integer({
      default: 65_000,
      minimum: 1,
      description: 'How long an idle connection is kept.',
    }),
    connectionsMax: Type.Integer({ default: 4_096, minimum: 1, description: 'Most open connections; more are cut.' }),
    inFlightMax: Type.Integer({
      default: 2_048,
      minimum: 1,
      description: 'Most requests in flight; more are answered `overloaded`.',
    }),
    addressSharePercent: Type.Integer({
      default: 50,
      minimum: 1,
      maximum: 100,
      description:
        'Share of connectionsMax and of inFlightMax that one address may take (IPv6: one /64; one /48 takes half as much again). Connections beyond it are cut, requests answered `overloaded`. 100: no share.',
    }),
    queriesAtOnceMax: Type.Integer({
      default: 8,
      minimum: 1,
      description:
        'Most status reads, lists, counters and cancels that run at once, on both listeners together; further ones wait. One project runs at most half of them.',
    }),
    queriesWaitingMax: Type.Integer({
      default: 512,
      minimum: 0,
      description:
        'Most of them that wait, the projects taking turns; further ones are answered `overloaded`. Each counts in inFlightMax.',
    }),
    queriesWaitMsMax: Type.Integer({
      default: 10_000,
      minimum: 1,
      description: 'How long one of them waits before it is answered `overloaded`.',
    }),
  },
  { additionalProperties: false, description: 'The public HTTP listener of a core.' },
)
export type HttpSettings = Static<typeof HttpSettings>

export const AdminApiSettings = Type.Object(
  {
    host: Type.String({ default: '127.0.0.1', description: 'Address the admin API listens on.' }),
    port: Type.Integer({ default: 0, minimum: 0, maximum: 65535, description: 'Port of the admin API. 0: none.' }),
    requestsPerSecond: Type.Integer({
      default: 20,
      minimum: 1,
      description:
        'Requests from one address a second; five times as many may come at once. It slows down guesses at secrets.',
    }),
    changesPerDay: Type.Integer({
      default: 300,
      minimum: 0,
      description:
        'Changes with one credential of a project a day, refused ones included, on each core; 0: no limit. It keeps the room of the project in the audit log. Credentials for all projects have no limit.',
    }),
  },
  { additionalProperties: false, default: {}, description: 'The admin API: projects, keys, credentials, audit.' },
)
export type AdminApiSettings = Static<typeof AdminApiSettings>

export const LimitSettings = Type.Object(
  {
    messagesPerSecond: Type.Integer({
      default: 20_000,
      minimum: 0,
      description:
        'Messages of a project a second, over all cores, each target counted; 0: no limit. A project may have its own.',
    }),
    requestsPerSecond: Type.Integer({
      default: 10_000,
      minimum: 0,
      description: 'HTTP requests from one address a second (IPv6: from one /64), over all cores; 0: no limit.',
    }),
    enrolmentsPerSecond: Type.Integer({
      default: 50,
      minimum: 0,
      description:
        'Enrolments and renewals of devices from one address a second (IPv6: from one /64), over all cores; 0: no limit.',
    }),
    enrolmentsPerKeyPerSecond: Type.Integer({
      default: 100,
      minimum: 0,
      description: 'Enrolments with one enrolment key a second, over all cores; 0: no limit.',
    }),
    burstSeconds: Type.Integer({
      default: 2,
      minimum: 1,
      maximum: 3_600,
      description: 'What was left over in so many seconds may be taken at once.',
    }),
  },
  { additionalProperties: false, description: 'Rate limits of the HTTP API; more is answered 429.' },
)
export type LimitSettings = Static<typeof LimitSettings>
