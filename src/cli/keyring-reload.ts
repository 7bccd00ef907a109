/** A process reads its keys again: at SIGHUP, at the notice of `borealis keyring`, and after it was cut off from NATS. */
import { KEYRING_CHANGED_SUBJECT } from '../../protocol/subjects.js'
import type { Broker } from '../nats/broker.js'
import type { Logger } from '../observe/log.js'

export interface KeyringReload {
  /** Rejects if the file cannot be used; then the present keys stay in use. */
  reload(): Promise<void>
  stop(): void
}

/** `read` rejects, and changes nothing, if the file cannot be used. At most one call is under way. */
export function followKeyring(broker: Broker, log: Logger, read: () => Promise<void>): KeyringReload {
  let last: Promise<void> = Promise.resolve()
  let isWaiting = false
  const reload = () => {
    last = last.catch(() => undefined).then(read)
    return last
  }
  // Several notices at once need one reading, which begins after the last of them.
  const notice = () => {
    if (isWaiting) return
    isWaiting = true
    last = last
      .catch(() => undefined)
      .then(() => {
        isWaiting = false
        return read()
      })
    last.catch((error: unknown) =>
      log.error({ error }, 'the keys could not be read again: the present keys stay in use'),
    )
  }
  const subscription = broker.bus.subscribe(KEYRING_CHANGED_SUBJECT, notice)
  // A notice may have been lost meanwhile.
  const status = broker.onStatus((status) => {
    if (status === 'reconnected') notice()
  })
  return {
    reload,
    stop: () => {
      subscription.unsubscribe()
      status.unsubscribe()
    },
  }
}
