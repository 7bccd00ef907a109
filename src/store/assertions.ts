/** Used client assertions (table ASSERTIONS). An assertion is valid once, at any of the cores. */
import { createHash } from 'node:crypto'
import { Bucket } from '../../protocol/subjects.js'
import { type Broker, isConflict, type Table } from '../nats/broker.js'

export class UsedAssertions {
  private readonly table: Table

  constructor(broker: Broker) {
    this.table = broker.table(Bucket.ASSERTIONS)
  }

  /**
   * Resolves with false if this client has used this `jti` before. Rejects with BrokerError if the answer is lost: the
   * assertion may then be used up, and the client has to make another one.
   */
  async use(clientId: string, jti: string): Promise<boolean> {
    try {
      await this.table.put(keyOf(clientId, jti), NOTHING, 0)
      return true
    } catch (error) {
      if (isConflict(error)) return false
      throw error
    }
  }
}

const NOTHING = new Uint8Array(0)

function keyOf(clientId: string, jti: string): string {
  return createHash('sha256').update(`${clientId.length}:${clientId}${jti}`).digest('base64url')
}
