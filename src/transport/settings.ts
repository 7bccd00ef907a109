/** The settings of a transport instance. Every limit is here, with its effect beyond it. */
import Type, { type Static } from 'typebox'

const positive = (description: string, value: number) => Type.Integer({ minimum: 1, default: value, description })
const natural = (description: string, value: number) => Type.Integer({ minimum: 0, default: value, description })

export const TransportSettings = Type.Object(
  {
    host: Type.String({ default: '0.0.0.0', description: 'Address on which devices connect.' }),
    port: Type.Integer({ minimum: 0, maximum: 65535, default: 7700, description: 'Port on which devices connect.' }),
    instance: Type.String({
      pattern: '^[A-Za-z0-9_-]{1,32}$',
      default: 'local',
      description: 'Name of this transport instance, unique in the installation.',
    }),
    publicUrl: Type.String({
      default: '',
      description: 'WebSocket URL under which devices reach this instance; empty: made of host and port.',
    }),
    tlsCertificate: Type.String({
      default: '',
      description: 'PEM file of the certificate; empty: no TLS. Read again at SIGHUP.',
    }),
    tlsKey: Type.String({ default: '', description: "PEM file of the certificate's key." }),
    proxyProtocolFrom: Type.Array(Type.String({ minLength: 1 }), {
      default: [],
      description:
        'Addresses and networks of load balancers whose PROXY header (version 2) is trusted. Other peers that send one are refused. Works with plain connections only.',
    }),
    workers: natural('Number of worker processes; 0: computed from the cores and connectionsTarget.', 0),
    connectionsTarget: positive('Number of devices that this instance is meant for; it decides the workers.', 10_000),
    connectionsMax: natural('Most connections of a worker; 0: 90% of its file descriptors. Beyond: 503.', 0),
    connectionsPerAddressMax: positive('Most connections from one address. Beyond: 503.', 20_000),
    handshakesPerSecondMax: positive('Most new connections of a worker in a second. Beyond: 503.', 5_000),
    loopLagMsMax: positive('Longest lag of the event loop with which a worker accepts connections. Beyond: 503.', 500),
    handshakesInFlightMax: positive(
      'Most connections of a worker between upgrade and WELCOME; a slow worker accepts fewer. Beyond: 503, or closed as overloaded after HELLO.',
      2_000,
    ),
    helloTimeoutMs: positive('Longest wait for HELLO. Beyond: closed.', 5_000),
    keepaliveMs: positive(
      'A device sends a keepalive after this much silence. After one and a half times as much it is closed.',
      120_000,
    ),
    framesPerSecondMax: positive('Most frames of a device in a second; ACKs hardly count. Beyond: closed.', 100),
    requestsInFlightMax: positive('Most unanswered requests (REGISTER, SUBSCRIBE, ...) of a device. Beyond: ERROR.', 8),
    windowMax: positive('Most pushes of a device that are sent and not acknowledged. Beyond: queued.', 64),
    heldMax: positive('Most live pushes of a device that wait for the end of its catch-up. Beyond: queued.', 64),
    registrationsMax: positive('Most registrations of a device, as WELCOME tells it. The core enforces the limit.', 64),
    topicsMax: positive('Most topics of a device, as WELCOME tells it. The core enforces the limit.', 256),
    catchUpsInFlightMax: positive('Most reads of offline queues, and of group logs, at a time. Beyond: they wait.', 64),
    backpressureBytesMax: positive('Most buffered bytes of a slow device. Beyond: closed as too slow.', 1_048_576),
    catchUpBufferedBytesMax: positive(
      'Most buffered bytes of a device that catches up. Beyond: its catch-up waits.',
      65_536,
    ),
    catchUpStalledMs: positive(
      'Longest time without progress of a catch-up whose device does not read. Beyond: closed as too slow.',
      60_000,
    ),
    groupCacheBytesMax: positive('Memory for recent group messages. Older ones are read from the log.', 16_777_216),
    settlesMax: positive(
      'Most acknowledgements of queued pushes that the core has not confirmed. Beyond: the pushes are delivered again.',
      65_536,
    ),
    settleRepeatMs: positive(
      'An acknowledgement of a queued push that the core has not confirmed is repeated after this time.',
      1_000,
    ),
    coreTimeoutMs: positive(
      'Longest wait for an answer of the core to a request of a device, or to an acknowledgement.',
      5_000,
    ),
    ticketSeconds: positive('Lifetime of a ticket.', 86_400),
    tombstoneDelayMs: positive(
      'Delay until the end of a session is written to the table, unless the device reconnects to the same worker before.',
      30_000,
    ),
    tombstonesWaitingMax: positive(
      'Most ends of sessions that wait to be written. Beyond: the oldest is written at once.',
      20_000,
    ),
    auditMs: positive('Time in which each session is compared with the table once.', 300_000),
    auditPerSecondMax: positive(
      'Most sessions compared with the table in a second, when all have to be after a lapse of the lease.',
      500,
    ),
    groupTopicsMax: positive('Most topics that a worker remembers. Beyond: the quietest is forgotten.', 65_536),
    drainDelayMs: natural(
      'Delay between "not ready" and the beginning of a drain of the instance, for a load balancer to notice.',
      0,
    ),
    drainPerSecondMax: positive(
      'Most devices in a second that a worker asks to leave, in a drain or a rolling restart.',
      2_000,
    ),
    drainMs: positive(
      'Time in which a worker of an instance that drains asks all its devices to leave, at a higher rate if necessary.',
      10_000,
    ),
    restartMs: positive(
      'Time in which a worker asks all its devices to leave in a rolling restart. It asks them only as fast as they return to this instance, unless this time would end before.',
      30_000,
    ),
    drainJitterMs: natural('A device that is asked to leave does so after a random time up to this.', 250),
    drainGraceMs: natural('Time after a drain for the last acknowledgements.', 2_000),
    drainUrl: Type.String({
      default: '',
      description:
        'WebSocket URL for the devices of an instance that drains; empty: the URL that they came from (a load balancer).',
    }),
    restartBackoffMs: positive(
      'Delay before a crashed worker is started again. The first restart has none; each further crash doubles it, up to 32 times.',
      250,
    ),
  },
  { default: {}, description: 'Transport: connections of devices.' },
)

export type TransportSettings = Static<typeof TransportSettings>
