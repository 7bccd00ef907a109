/** The time of the service in a core process: the store's clock, asked with a record in CORES that all cores share. */
import { Bucket } from '../../../protocol/subjects.js'
import type { Clock } from '../../clock.js'
import type { Broker } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'
import { askWith, ServiceClock } from '../../store/service-clock.js'

const KEY = 'time'

/** Resolves once the time is known. Rejects with BrokerError. */
export async function startServiceClock(broker: Broker, local: Clock, log: Logger): Promise<ServiceClock> {
  const clock = new ServiceClock(local, {
    onWrong: (aheadMs) => log.warn({ aheadMs }, 'the clock of this machine differs from the clock of nats-server'),
    onError: (error) => log.debug({ error }, 'the store did not tell its time'),
  })
  await clock.follow(askWith(broker.table(Bucket.CORES), KEY, new Uint8Array(0)))
  return clock
}
