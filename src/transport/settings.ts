/** Settings of a transport instance. Every limit stands here, with what happens beyond it. */
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
      description: 'PEM file of the certificate; empty: no TLS. Read anew at SIGHUP.',
    }),
    tlsKey: Type.String({ default: '', description: "PEM file of the certificate's key." }),
    proxyProtocolFrom: Type.Array(Type.String({ minLength: 1 }), {
      default: [],
      description:
        'Addresses and networks of load balancers, whose PROXY header (version 2) is believed; anybody else who sends one is refused. Plain connections only.',
    }),
    workers: natural('Worker processes; 0: from the cores and connectionsTarget.', 0),
    connectionsTarget: positive(
      'How many devices this instance is meant for; more workers are started for it.',
      10_000,
    ),
    connectionsMax: natural('Most connections of a worker; 0: 90% of its file descriptors. Beyond: 503.', 0),
    connectionsPerAddressMax: positive('Most connections from one address. Beyond: 503.', 20_000),
    handshakesPerSecondMax: positive('Most new connections a second and worker. Beyond: 503.', 5_000),
    loopLagMsMax: positive('A worker that is so late with its work takes no new connections. Beyond: 503.', 500),
    handshakesInFlightMax: positive(
      'Most connections of a worker between upgrade and WELCOME, fewer where it cannot serve as many in a moment. Beyond: 503 (a HELLO: closed as overloaded).',
      2_000,
    ),
    helloTimeoutMs: positive('A connection without HELLO for so long is closed.', 5_000),
    keepaliveMs: positive(
      'A device that was silent for so long sends a keepalive; after one and a half times that it is closed.',
      120_000,
    ),
    framesPerSecondMax: positive('Most frames a second from a device, ACKs hardly counted. Beyond: closed.', 100),
    requestsInFlightMax: positive('Most requests (REGISTER, SUBSCRIBE, ...) of a device under way. Beyond: ERROR.', 8),
    windowMax: positive('Most NOTIFY frames sent ahead of their ACK. Beyond: queued.', 64),
    heldMax: positive('Most live messages that wait for the end of a catch-up of their device. Beyond: queued.', 64),
    registrationsMax: positive('Told to devices; the core enforces it.', 64),
    topicsMax: positive('Told to devices; the core enforces it.', 256),
    catchUpsInFlightMax: positive('Most reads of offline queues and group logs under way. Beyond: they wait.', 64),
    backpressureBytesMax: positive('Most bytes kept for a slow device. Beyond: closed as too slow.', 1_048_576),
    catchUpBufferedBytesMax: positive('A catch-up waits while so many bytes are kept for the device.', 65_536),
    catchUpStalledMs: positive('A device that takes nothing of a catch-up for so long is closed as too slow.', 60_000),
    groupCacheBytesMax: positive('Memory for recent group messages; older ones are read from the log.', 16_777_216),
    settlesMax: positive(
      'Most outcomes of queued messages that wait for their confirmation. Beyond: delivered again.',
      65_536,
    ),
    settleRepeatMs: positive('Outcomes of queued messages are repeated after so long.', 1_000),
    coreTimeoutMs: positive('Requests to the core are given up after so long.', 5_000),
    ticketSeconds: positive('How long a resume ticket is good for.', 86_400),
    tombstoneDelayMs: positive(
      'The end of a session is written to the table after so long, unless the device is back at the same worker.',
      30_000,
    ),
    tombstonesWaitingMax: positive('Most ends that wait for that. Beyond: the oldest is written at once.', 20_000),
    auditMs: positive('Every session is compared with the table once in so long.', 300_000),
    auditPerSecondMax: positive('Most sessions compared a second when all have to be, after a lapse.', 500),
    groupTopicsMax: positive('Topics remembered by a worker. Beyond: the quietest is read from the log again.', 65_536),
    drainDelayMs: natural(
      'A drain of the instance begins so long after it said that it is not ready: time for a load balancer to notice.',
      0,
    ),
    drainPerSecondMax: positive(
      'Most devices a second that a worker asks to leave, in a drain or a rolling restart.',
      2_000,
    ),
    drainMs: positive(
      'By then a worker of an instance that leaves has asked all its devices, even where the rate has to be higher for it.',
      10_000,
    ),
    restartMs: positive(
      'In a rolling restart devices are asked to leave only as fast as they are back in this instance; but by then a worker has asked all of them.',
      30_000,
    ),
    drainJitterMs: natural('A device that is asked to leave does so within a random time up to this.', 250),
    drainGraceMs: natural('After a drain, so long for the last acknowledgements.', 2_000),
    drainUrl: Type.String({
      default: '',
      description:
        'WebSocket URL that devices of a drained instance are sent to; empty: where they came from (a load balancer).',
    }),
    restartBackoffMs: positive(
      'A worker that crashes is started again at once; after a second crash it waits this, doubled with each further one, up to 32 times this.',
      250,
    ),
  },
  { default: {}, description: 'Transport: connections of devices.' },
)

export type TransportSettings = Static<typeof TransportSettings>
