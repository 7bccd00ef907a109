/** A configuration for nats-server in which each part of Borealis and each tenant may use what it needs and no more. */
import { accountsOf } from './accounts.js'
import type { NatsUser } from './permissions.js'

export interface ServerConfigOptions {
  dataDir: string
  port: number
  /** Default 127.0.0.1: nats-server is private to the machine or its network. */
  host?: string
  users: NatsUser[]
  /** As in StoreSettings. */
  split: number
  /** A limit for all of JetStream on disk; default: the server's own, three quarters of what is free. */
  fileBytesMax?: number
}

/** The text of a configuration file (JSON, which nats-server reads as its own format). */
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
