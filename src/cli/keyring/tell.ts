import { KEYRING_CHANGED_SUBJECT } from '../../../protocol/subjects.js'
import type { Broker } from '../../nats/broker.js'

/** Every core and every worker reads its file again. */
export function tellKeyringChanged(broker: Broker): void {
  broker.bus.publish(KEYRING_CHANGED_SUBJECT, new Uint8Array())
}
