/** The settings of a transport instance. Every limit is here, with its effect beyond it. */
import Type, { type Static } from 'typebox'
import { whole } from '../setting-types.js'

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
    workers: whole(0, 'Number of worker processes; 0: computed from the cores and connectionsTarget.', 0),
    connectionsTarget: whole(10_000, 'Number of devices that this instance is meant for; it decides the workers.'),
    connectionsMax: whole(0, 'Most connections of a worker; 0: 90% of its file descriptors. Beyond: 503.', 0),
    connectionsPerAddressMax: whole(20_000, 'Most connections from one address. Beyond: 503.'),
    handshakesPerSecondMax: whole(5_000, 'Most new connections of a worker in a second. Beyond: 503.'),
    loopLagMsMax: whole(500, 'Longest lag of the event loop with which a worker accepts connections. Beyond: 503.'),
    handshakesInFlightMax: whole(
      2_000,
      'Most connections of a worker between upgrade and WELCOME; a slow worker accepts fewer. Beyond: 503, or closed as overloaded after HELLO.',
    ),
    helloTimeoutMs: whole(5_000, 'Longest wait for HELLO. Beyond: closed.'),
    keepaliveMs: whole(
      120_000,
      'A device sends a keepalive after this much silence. After one and a half times as much it is closed.',
    ),
    framesPerSecondMax: whole(100, 'Most frames of a device in a second; ACKs hardly count. Beyond: closed.'),
    requestsInFlightMax: whole(8, 'Most unanswered requests (REGISTER, SUBSCRIBE, ...) of a device. Beyond: ERROR.'),
    windowMax: whole(64, 'Most pushes of a device that are sent and not acknowledged. Beyond: queued.'),
    heldMax: whole(64, 'Most live pushes of a device that wait for the end of its catch-up. Beyond: queued.'),
    registrationsMax: whole(64, 'Most registrations of a device, as WELCOME tells it. The core enforces the limit.'),
    topicsMax: whole(256, 'Most topics of a device, as WELCOME tells it. The core enforces the limit.'),
    catchUpsInFlightMax: whole(64, 'Most reads of offline queues, and of group logs, at a time. Beyond: they wait.'),
    backpressureBytesMax: whole(1_048_576, 'Most buffered bytes of a slow device. Beyond: closed as too slow.'),
    catchUpBufferedBytesMax: whole(
      65_536,
      'Most buffered bytes of a device that catches up. Beyond: its catch-up waits.',
    ),
    catchUpStalledMs: whole(
      60_000,
      'Longest time without progress of a catch-up whose device does not read. Beyond: closed as too slow.',
    ),
    groupCacheBytesMax: whole(16_777_216, 'Memory for recent group messages. Older ones are read from the log.'),
    settlesMax: whole(
      65_536,
      'Most acknowledgements of queued pushes that the core has not confirmed. Beyond: the pushes are delivered again.',
    ),
    settleRepeatMs: whole(
      1_000,
      'An acknowledgement of a queued push that the core has not confirmed is repeated after this time.',
    ),
    coreTimeoutMs: whole(
      5_000,
      'Longest wait for an answer of the core to a request of a device, or to an acknowledgement.',
    ),
    ticketSeconds: whole(86_400, 'Lifetime of a ticket.'),
    tombstoneDelayMs: whole(
      30_000,
      'Delay until the end of a session is written to the table, unless the device reconnects to the same worker before.',
    ),
    tombstonesWaitingMax: whole(
      20_000,
      'Most ends of sessions that wait to be written. Beyond: the oldest is written at once.',
    ),
    auditMs: whole(300_000, 'Time in which each session is compared with the table once.'),
    auditPerSecondMax: whole(
      500,
      'Most sessions compared with the table in a second, when all have to be after a lapse of the lease.',
    ),
    groupTopicsMax: whole(65_536, 'Most topics that a worker remembers. Beyond: the quietest is forgotten.'),
    drainDelayMs: whole(
      0,
      'Delay between "not ready" and the beginning of a drain of the instance, for a load balancer to notice.',
      0,
    ),
    drainPerSecondMax: whole(
      2_000,
      'Most devices in a second that a worker asks to leave, in a drain or a rolling restart.',
    ),
    drainMs: whole(
      10_000,
      'Time in which a worker of an instance that drains asks all its devices to leave, at a higher rate if necessary.',
    ),
    restartMs: whole(
      30_000,
      'Time in which a worker asks all its devices to leave in a rolling restart. It asks them only as fast as they return to this instance, unless this time would end before.',
    ),
    drainJitterMs: whole(250, 'A device that is asked to leave does so after a random time up to this.', 0),
    drainGraceMs: whole(2_000, 'Time after a drain for the last acknowledgements.', 0),
    drainUrl: Type.String({
      default: '',
      description:
        'WebSocket URL for the devices of an instance that drains; empty: the URL that they came from (a load balancer).',
    }),
    restartBackoffMs: whole(
      250,
      'Delay before a crashed worker is started again. The first restart has none; each further crash doubles it, up to 32 times.',
    ),
  },
  { default: {}, description: 'Transport: connections of devices.' },
)

export type TransportSettings = Static<typeof TransportSettings>
