/** Joins the frames of one turn for each device: one WebSocket message and one system call instead of several. */
import type { Session } from '../session/session.js'

/** The longest message that frames are joined to. A longer frame is sent alone. */
const JOINED_BYTES_MAX = 64 * 1024

export class Outbox {
  private dirty: Session[] = []

  /** @param onDropped called when a socket takes no more: some of its frames will not arrive. */
  constructor(
    private readonly onDropped: (session: Session) => void,
    private readonly onSent: (bytes: number) => void = () => undefined,
  ) {}

  add(session: Session, frame: Uint8Array): void {
    if (session.outgoing === null) {
      session.outgoing = frame
      this.dirty.push(session)
    } else if (Array.isArray(session.outgoing)) session.outgoing.push(frame)
    else session.outgoing = [session.outgoing, frame]
  }

  /** Called at the end of each turn. */
  flush(): void {
    if (this.dirty.length === 0) return
    const sessions = this.dirty
    this.dirty = []
    for (const session of sessions) this.flushOne(session)
  }

  flushOne(session: Session): void {
    const { outgoing } = session
    if (outgoing === null) return
    session.outgoing = null
    if (!Array.isArray(outgoing)) this.send(session, outgoing)
    else for (const message of joined(outgoing)) if (!this.send(session, message)) return
  }

  private send(session: Session, message: Uint8Array): boolean {
    this.onSent(message.length)
    if (session.socket.send(message) !== 'dropped') return true
    this.onDropped(session)
    return false
  }
}

function joined(frames: Uint8Array[]): Uint8Array[] {
  const messages: Uint8Array[] = []
  let from = 0
  while (from < frames.length) {
    let bytes = (frames[from] as Uint8Array).length
    let to = from + 1
    while (to < frames.length && bytes + (frames[to] as Uint8Array).length <= JOINED_BYTES_MAX) {
      bytes += (frames[to++] as Uint8Array).length
    }
    messages.push(to - from === 1 ? (frames[from] as Uint8Array) : Buffer.concat(frames.slice(from, to), bytes))
    from = to
  }
  return messages
}
