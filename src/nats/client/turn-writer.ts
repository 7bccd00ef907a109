/**
 * Collects the messages that one turn of the event loop publishes, and writes them together at its end.
 *
 * The client flushes whenever the microtask queue is empty. Because every answer settles a promise of its own, each
 * publish would then be one system call, and a worker is slower while devices connect. Order is kept: all publishes of a
 * connection pass through here. Subscriptions do not, and so can only arrive earlier than without this class.
 */

export interface Command {
  subject: string
  body: Uint8Array
  /** Empty if the sender wants no answer. */
  reply: string
  headers: Record<string, string> | null
}

/** About the amount at which the client itself flushes at once. */
const KEPT_BYTES_MAX = 32 * 1024
/** Upper estimate for the subject, the sizes and the line ends of a command. */
const COMMAND_BYTES = 128

export class TurnWriter {
  #waiting: Command[] = []
  #bytes = 0
  #due: NodeJS.Immediate | null = null

  /** @param write publishes one message. It must not throw. */
  constructor(private readonly write: (command: Command) => void) {}

  add(subject: string, body: Uint8Array, reply: string, headers: Record<string, string> | null): void {
    this.#waiting.push({ subject, body, reply, headers })
    this.#bytes += body.length + COMMAND_BYTES
    if (this.#bytes >= KEPT_BYTES_MAX) this.flush()
    else this.#due ??= setImmediate(() => this.flush())
  }

  /** Writes everything that waits. */
  flush(): void {
    for (const command of this.#taken()) this.write(command)
  }

  /** Discards everything that waits, because the connection is lost. */
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
