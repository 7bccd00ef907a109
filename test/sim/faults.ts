/** What goes wrong in a simulated broker. Probabilities are of one message; ranges are inclusive milliseconds. */
export interface Faults {
  /** From a client to the server or back. */
  latencyMs: readonly [number, number]
  /** A message takes its own time instead of waiting for those before it on other subjects (a cluster does that). */
  overtake: number
  /** A core NATS message to one subscriber is lost (slow consumer, reconnect). Never one that a stream stores. */
  dropCore: number
  /** An append or a read never reaches the server. */
  loseRequest: number
  /** It was done, but its answer is lost: the caller sees a `timeout`. */
  loseAnswer: number
  /** An append is refused as `unavailable`. */
  refuseAppend: number
  /** A consumer's ack, nack or working is lost. */
  loseAck: number
  /** A record is delivered a second time although it is acknowledged in time. */
  redeliver: number
  /** Added to each record of a watch or tail. */
  tailDelayMs: readonly [number, number]
  /** A read that is not authoritative answers from a replica that is so far behind (0: none lags). */
  staleRead: number
  staleMs: readonly [number, number]
  /** After a kill -9 of the server a deletion of its last two seconds is undone. */
  undoDelete: number
  /** nats-server 2.9 forgets the older records of a subject when its newest is deleted. */
  forgetsOlder: boolean
  /** How long a silent connection stays up on both sides. */
  silentMs: number
  reconnectMs: readonly [number, number]
}

/** Nothing goes wrong but the time that messages take, and what nats-server 2.9 always does. */
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
