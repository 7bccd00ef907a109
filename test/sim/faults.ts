/** The faults of the simulated broker. Probabilities apply to each message; ranges are inclusive, in milliseconds. */
export interface Faults {
  /** Latency of a message from a client to the server or back. */
  latencyMs: readonly [number, number]
  /** A message does not wait for earlier messages on other subjects, as in a NATS cluster. */
  overtake: number
  /** A core NATS message to one subscriber is lost, as by a slow consumer. A message that a stream stores is not. */
  dropCore: number
  /** An append or a read never reaches the server. */
  loseRequest: number
  /** The server performs an append or a read, but the answer is lost: the caller gets a `timeout`. */
  loseAnswer: number
  /** An append is refused as `unavailable`. */
  refuseAppend: number
  /** A consumer's ack, nack or working is lost. */
  loseAck: number
  /** A record is delivered a second time although it is acknowledged in time. */
  redeliver: number
  /** Additional latency of each record of a watch or tail. */
  tailDelayMs: readonly [number, number]
  /** A read that is not authoritative is answered by a replica that lags by `staleMs`. */
  staleRead: number
  staleMs: readonly [number, number]
  /** A kill -9 of the server undoes a deletion of the last two seconds. */
  undoDelete: number
  /** Deleting the newest record of a subject makes the server forget the older ones, as nats-server 2.9 does. */
  forgetsOlder: boolean
  /** How long both sides keep a connection without traffic. */
  silentMs: number
  /** Time from the loss of a connection to a reconnect attempt. */
  reconnectMs: readonly [number, number]
}

/** No faults: messages have a latency, and nats-server 2.9 keeps its known behaviour. */
export const noFaults: Faults = {
  latencyMs: [1, 3],
  overtake: 0,
  dropCore: 0,
  loseRequest: 0,
  loseAnswer: 0,
  refuseAppend: 0,
  loseAck: 0,
  redeliver: 0,
  tailDelayMs: [0, 0],
  staleRead: 0,
  staleMs: [1, 500],
  undoDelete: 0,
  forgetsOlder: true,
  silentMs: 20_000,
  reconnectMs: [50, 1_500],
}
