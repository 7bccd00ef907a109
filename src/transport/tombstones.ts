/** Ends of sessions on their way to the table. */
import type { SessionOwner, SessionTable } from '../store/sessions.js'
import { Limiter } from './limiter.js'
import type { Session } from './session.js'

/** A worker that loses all its devices at once must not fill the store's queue with their ends. */
const IN_FLIGHT_MAX = 256

export class Tombstones {
  private readonly limiter = new Limiter(IN_FLIGHT_MAX)
  private readonly underWay = new Set<Promise<void>>()

  constructor(
    private readonly sessions: SessionTable,
    private readonly owner: Omit<SessionOwner, 'connection'>,
    private readonly onError: (what: string, error: unknown) => void,
  ) {}

  /** Once: where it fails, the table names a worker that answers "not here". */
  write(session: Session): void {
    const { device, connection, revision } = session
    const written: Promise<void> = this.limiter
      .run(() => this.sessions.close(device, { ...this.owner, connection }, revision))
      .catch((error: unknown) => this.onError('tombstone', error))
      .then(() => {
        this.underWay.delete(written)
      })
    this.underWay.add(written)
  }

  async settled(): Promise<void> {
    await Promise.all(this.underWay)
  }
}
