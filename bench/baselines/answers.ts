/** Collects the answers that devices send to a baseline server. They go to bench over NATS, one batch a tick. */
import type { NatsConnection } from 'nats'
import { ANSWERS_SUBJECT, ID_BYTES } from './feed.js'

const FIRST_BYTES = 64 * 1024

export class Answers {
  #bytes = Buffer.allocUnsafe(FIRST_BYTES)
  #length = 0

  constructor(private readonly nats: NatsConnection) {}

  /** Takes the message id at offset `at`. */
  add(message: Uint8Array, at: number): void {
    if (this.#length === 0) setImmediate(() => this.#flush())
    if (this.#length + ID_BYTES > this.#bytes.length) this.#bytes = Buffer.concat([this.#bytes], this.#bytes.length * 2)
    for (let i = 0; i < ID_BYTES; i++) this.#bytes[this.#length + i] = message[at + i] as number
    this.#length += ID_BYTES
  }

  #flush(): void {
    this.nats.publish(ANSWERS_SUBJECT, Buffer.from(this.#bytes.subarray(0, this.#length)))
    this.#length = 0
  }
}
