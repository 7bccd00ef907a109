/** Client assertions that were used (table ASSERTIONS): each is good once, at whichever core it is shown. */
import { createHash } from 'node:crypto'
import { Bucket } from '../../protocol/subjects.js'
import { type Broker, BrokerError, type Table } from '../nats/broker.js'

export class UsedAssertions {
  private readonly table: Table

  constructor(broker: Broker) {
    this.table = broker.table(Bucket.ASSERTIONS)
  }

  /**
   * False where this client showed this `jti` before. Rejects with BrokerError where that is not known: then the
   * assertion may be used up, and the client makes another.
   */
  async use(clientId: string, jti: string): Promise<boolean> {
    try {
      await this.table.put(keyOf(clientId, jti), NOTHING, 0)
      return true
    } catch (error) {
      if (error instanceof BrokerError && error.code === 'wrong_last_sequence') return false
      throw error
    }
  }
}

const NOTHING = new Uint8Array(0)

function keyOf(clientId: string, jti: string): string {
  return createHash('sha256').update(`${clientId.length}:${clientId}${jti}`).digest('base64url')
}
