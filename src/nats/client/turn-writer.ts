/**
 * What one turn of the event loop publishes leaves together, at its end.
 *
 * The client flushes what it has whenever the microtasks of the moment are over: with every answer that wakes its own
 * promise that is one system call for each publish, which a worker feels while devices connect. Order is kept: all
 * that a connection publishes goes through here, and subscriptions, which do not, only ever come earlier than they would.
 */

export interface Command {
  subject: string
  body: Uint8Array
  /** Empty: none. */
  reply: string
  headers: Record<string, string> | null
}

/** About what the client itself would flush at once: more is not kept. */
const KEPT_BYTES_MAX = 32 * 1024
/** Subject, sizes and line ends, rounded up. */
const COMMAND_BYTES = 128

export class TurnWriter {
  #waiting: Command[] = []
  #bytes = 0
  #due: NodeJS.Immediate | null = null

  /** @param write publishes one; must not throw. */
  constructor(private readonly write: (command: Command) => void) {}

  add(subject: string, body: Uint8Array, reply: string, headers: Record<string, string> | null): void {
    this.#waiting.push({ subject, body, reply, headers })
    this.#bytes += body.length + COMMAND_BYTES
    if (this.#bytes >= KEPT_BYTES_MAX) this.flush()
    else this.#due ??= setImmediate(() => this.flush())
  }

  /** Everything that waits, now. */
  flush(): void {
    for (const command of this.#taken()) this.write(command)
  }

  /** There is nobody to send it to. */
  drop(): void {
    this.#taken()
  }

  #taken(): Command[] {
    if (this.#due) clearImmediate(this.#due)
    this.#due = null
    const commands = this.#waiting
    if (commands.length === 0) return commands
    this.#waiting = []
    this.#bytes = 0
    return commands
  }
}
