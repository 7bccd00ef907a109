/** What a worker is made of: its ports, its settings, and what its process knows. */
import type { Clock } from '../clock.js'
import type { TransportKeys } from '../keyring.js'
import type { Broker } from '../nats/broker.js'
import type { Logger } from '../observe/log.js'
import type { TransportSettings } from './settings.js'
import type { Sockets } from './socket/socket.js'

export interface WorkerOptions {
  broker: Broker
  clock: Clock
  sockets: Sockets
  settings: TransportSettings
  /** Into how many streams QUEUE and EVENTS are split. */
  split: number
  keys: TransportKeys
  /** Issuer of device tokens. */
  issuer: string
  /** See workerId(). */
  worker: string
  /** Most connections, from the descriptors that the process may have. */
  connectionsMax: number
  /** Descriptors that the process has open; null: not known. */
  descriptors: () => number | null
  /** A full garbage collection, where the process allows to ask for one. */
  collect?: () => void
  /** How late the process is with its work. */
  lagMs: () => number
  /** How much of a core it has where all workers are busy; default 1, all of one. */
  coreShare?: number
  log: Logger
}
