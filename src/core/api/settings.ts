/** Settings of the public face: the gateway, its tokens, enrolment, and the limits of messages and devices. */
import Type, { type Static } from 'typebox'

const MINUTE_MS = 60_000
const DAY_MS = 24 * 60 * MINUTE_MS

export const HttpSettings = Type.Object(
  {
    host: Type.String({ default: '127.0.0.1', description: 'Address the HTTP API listens on.' }),
    port: Type.Integer({ default: 8080, minimum: 0, maximum: 65535, description: 'Port; 0: any free one.' }),
    publicUrl: Type.String({
      default: '',
      pattern: '^(https?://[^\\s?#]+)?$',
      description:
        'Where app servers reach the API, such as https://push.example.com: stands in settings files, discovery documents and tokens. Default: where it listens.',
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
      description: 'Bodies over 64 KiB that are under way, all together; more are answered `overloaded`.',
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
        'Addresses and networks of reverse proxies, separated by commas: their X-Forwarded-For says who asks. Others are not believed.',
    }),
    keepAliveTimeoutMs: Type.Integer({
      default: 65_000,
      minimum: 1,
      description: 'An idle connection is kept so long.',
    }),
    connectionsMax: Type.Integer({ default: 4_096, minimum: 1, description: 'Most open connections; more are cut.' }),
    inFlightMax: Type.Integer({
      default: 2_048,
      minimum: 1,
      description: 'Most requests under way at once; more are answered `overloaded`.',
    }),
  },
  { additionalProperties: false, description: 'The public HTTP listener of a core.' },
)
export type HttpSettings = Static<typeof HttpSettings>

export const AdminApiSettings = Type.Object(
  {
    host: Type.String({ default: '127.0.0.1', description: 'Address the admin API listens on.' }),
    port: Type.Integer({ default: 0, minimum: 0, maximum: 65535, description: 'Port of the admin API. 0: none.' }),
  },
  { additionalProperties: false, default: {}, description: 'The admin API: projects, keys, credentials, audit.' },
)
export type AdminApiSettings = Static<typeof AdminApiSettings>

export const AuthSettings = Type.Object(
  {
    issuer: Type.String({
      default: 'borealis',
      minLength: 1,
      description: 'Who signs tokens: `iss` of access tokens and device tokens. Core and transport have the same.',
    }),
    audience: Type.String({
      default: 'borealis-push',
      minLength: 1,
      description: 'What access tokens are for: their `aud`. Several are separated by spaces.',
    }),
    accessTokenSeconds: Type.Integer({ default: 3_600, minimum: 60, description: 'Lifetime of an access token.' }),
    assertionSecondsMax: Type.Integer({
      default: 300,
      minimum: 10,
      maximum: 600,
      description: 'Longest lifetime of a client assertion, from its `iat` to its `exp`.',
    }),
    tokenRequestsPerSecond: Type.Integer({
      default: 10,
      minimum: 1,
      description: 'Requests to the token endpoint from one address; more are answered 429.',
    }),
    tokenRequestsBurst: Type.Integer({ default: 50, minimum: 1, description: 'So many of them may come at once.' }),
    deviceTokenDays: Type.Integer({ default: 365, minimum: 1, description: 'Lifetime of a device token.' }),
    transportUrl: Type.String({
      default: 'ws://127.0.0.1:7700/v1/device',
      description: 'Where an enrolled device connects; told at enrolment.',
    }),
    verifiedTokensMax: Type.Integer({
      default: 1_024,
      minimum: 1,
      description: 'Access tokens whose signature was checked and that are remembered, so that each is checked once.',
    }),
  },
  { additionalProperties: false, description: 'Tokens and enrolment.' },
)
export type AuthSettings = Static<typeof AuthSettings>

export const MessageLimits = Type.Object(
  {
    titleCharactersMax: Type.Integer({
      default: 512,
      minimum: 1,
      description: 'Longest title, in Unicode characters.',
    }),
    messageCharactersMax: Type.Integer({
      default: 2_048,
      minimum: 1,
      description: 'Longest message text, in Unicode characters.',
    }),
    dataBytesMax: Type.Integer({
      default: 4_096,
      minimum: 1,
      description: 'Most custom attributes, in bytes once encoded as msgpack.',
    }),
    dataDepthMax: Type.Integer({ default: 16, minimum: 1, description: 'Deepest nesting of custom attributes.' }),
    ttlMaxMs: Type.Integer({ default: 28 * DAY_MS, minimum: MINUTE_MS, description: 'Longest time to live.' }),
    notBeforeMaxMs: Type.Integer({
      default: 30 * DAY_MS,
      minimum: 0,
      description: 'How far ahead a message may be scheduled.',
    }),
    collapseKeyCharactersMax: Type.Integer({ default: 64, minimum: 1, description: 'Longest collapse key.' }),
    devicesMax: Type.Integer({
      default: 1_000,
      minimum: 1,
      description: 'Most registrations addressed by one message of type `devices`.',
    }),
    batchMax: Type.Integer({ default: 1_000, minimum: 1, description: 'Most messages of one batch.' }),
  },
  { additionalProperties: false, description: 'Limits of one message.' },
)
export type MessageLimits = Static<typeof MessageLimits>

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

export const DeviceLimits = Type.Object(
  {
    registrationsMax: Type.Integer({ default: 64, minimum: 1, description: 'Most registrations of a device.' }),
    topicsMax: Type.Integer({ default: 256, minimum: 1, description: 'Most topic subscriptions of a device.' }),
    requestsMax: Type.Integer({
      default: 1_024,
      minimum: 1,
      description: 'Most device requests under way at once; more are answered `overloaded`.',
    }),
  },
  { additionalProperties: false, description: 'Limits of one device.' },
)
export type DeviceLimits = Static<typeof DeviceLimits>

export const IngressSettings = Type.Object(
  {
    ackWaitMs: Type.Integer({ default: 30_000, minimum: 1_000, description: 'A record not done by then comes again.' }),
    pendingMax: Type.Integer({ default: 512, minimum: 1, description: 'Most records under way at once.' }),
    retryMs: Type.Integer({ default: 1_000, minimum: 1, description: 'Pause after the store was away.' }),
  },
  { additionalProperties: false, description: 'Messages published to NATS (`push.send.<project>`).' },
)
export type IngressSettings = Static<typeof IngressSettings>
