/** `borealis config check --start`: what a start of a part on this machine would find, without starting it. */
import { readFileSync } from 'node:fs'
import type { Config } from '../config/config.js'
import { KeyringError } from '../keyring.js'
import { type Broker, BrokerError } from '../nats/broker.js'
import { connect } from '../nats/connect.js'
import { requirePermissions } from '../nats/server/probe.js'
import { checkStoreFormat, StoreFormatError } from '../store/format.js'
import { checkKeyring, checkTransportKeys } from '../store/keyring-record.js'
import { CommandError } from './context.js'
import { readKeyring, readTransportKeys, transportFileOf } from './keyring-file.js'
import { claimPorts, type PortWish } from './start/ports.js'
import { version } from './version.js'

export const PARTS = ['core', 'transport'] as const
export type Part = (typeof PARTS)[number]

/** One line for each reason why the part would not start or not be ready; none: it would. Changes nothing. */
export async function problemsOfStart(config: Config, part: Part): Promise<string[]> {
  const checks = [
    () => claimPorts(portsOf(config, part)).then(() => undefined),
    async () => checkFiles(config, part),
    () => checkStore(config, part),
  ]
  const problems: string[] = []
  for (const check of checks) {
    try {
      await check()
    } catch (error) {
      problems.push(messageOf(error))
    }
  }
  return problems
}

function portsOf({ http, adminApi, transport, metrics, admin }: Config, part: Part): PortWish[] {
  const listeners =
    part === 'core'
      ? [
          { setting: 'http.port', ...http },
          { setting: 'adminApi.port', ...adminApi },
        ]
      : [
          { setting: 'transport.port', ...transport },
          { setting: 'admin.port', ...admin },
        ]
  return [...listeners, { setting: 'metrics.port', ...metrics }]
    .filter(({ port }) => port !== 0)
    .map(({ host, port, setting }) => ({ host, port, setting, variable: variableOf(setting) }))
}

const variableOf = (setting: string) =>
  `BOREALIS_${setting
    .replace(/[A-Z]/g, (letter) => `_${letter}`)
    .replace('.', '_')
    .toUpperCase()}`

function checkFiles({ keyring, transport }: Config, part: Part): void {
  if (part === 'core') {
    readKeyring(keyring.file)
    return
  }
  readTransportKeys(keyring)
  for (const file of [transport.tlsCertificate, transport.tlsKey].filter(Boolean)) readFileSync(file)
}

async function checkStore(config: Config, part: Part): Promise<void> {
  const broker = await connect(config.nats, { name: `check-${part}` })
  try {
    const { instance } = config.transport
    const user = { role: part, instance, user: config.nats.user, password: '' }
    await requirePermissions(broker, user, config.store.split)
    await checkStoreFormat(broker, version())
    await checkKeys(broker, config, part)
  } finally {
    await broker.close()
  }
}

/** A keyring that cannot be read was named before. */
async function checkKeys(broker: Broker, { keyring }: Config, part: Part): Promise<void> {
  if (part === 'core') {
    const keys = readable(() => readKeyring(keyring.file))
    if (keys) await checkKeyring(broker, keys, keyring.file)
    return
  }
  const keys = readable(() => readTransportKeys(keyring))
  if (keys) await checkTransportKeys(broker, keys, transportFileOf(keyring))
}

function readable<T>(read: () => T): T | null {
  try {
    return read()
  } catch (error) {
    if (error instanceof KeyringError) return null
    throw error
  }
}

function messageOf(error: unknown): string {
  const isOurs = [CommandError, KeyringError, BrokerError, StoreFormatError].some((kind) => error instanceof kind)
  if (isOurs || (error as NodeJS.ErrnoException).code !== undefined) return (error as Error).message
  throw error
}
