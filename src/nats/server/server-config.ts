/** Makes a configuration for nats-server in which each part of Borealis and each tenant may use only what it needs. */
import { accountsOf } from './accounts.js'
import type { NatsUser } from './permissions.js'

export interface ServerConfigOptions {
  dataDir: string
  port: number
  /** Default 127.0.0.1, because nats-server is private to the machine or its network. */
  host?: string
  users: NatsUser[]
  /** As in StoreSettings. */
  split: number
  /** Limit on disk for all of JetStream. Default: that of the server, three quarters of the free space. */
  fileBytesMax?: number
}

/** The text of a configuration file. It is JSON, which nats-server also reads. */
export function serverConfig(options: ServerConfigOptions): string {
  return JSON.stringify(
    {
      host: options.host ?? '127.0.0.1',
      port: options.port,
      server_name: 'borealis',
      jetstream: {
        store_dir: options.dataDir,
        ...(options.fileBytesMax !== undefined && { max_file_store: options.fileBytesMax }),
      },
      accounts: accountsOf(options.users, options.split),
    },
    null,
    2,
  )
}
