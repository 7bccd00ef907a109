/** NATS for `borealis start`: a server of our own, or the one that NATS_URL names. */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import type { Config } from '../../config/config.js'
import type { NatsUser } from '../../nats/server/permissions.js'
import { type NatsServer, startNatsServer } from '../../nats/server/server-process.js'
import { CommandError } from '../context.js'
import type { DataFolder } from './folder.js'
import { sampleProject } from './sample.js'

export interface Nats {
  url: string
  /** Environment variables with which a part connects in a role. */
  environmentAs(role: Role): Record<string, string>
  settingsAs(role: Role): Config['nats']
  /** Null if the server is not ours to stop. */
  server: NatsServer | null
}

/** Subfolder of the data folder for nats-server. */
export const natsFolder = 'nats'

type Role = 'core' | 'transport' | 'admin' | 'publisher' | 'subscriber'
const roles: readonly Role[] = ['core', 'transport', 'admin', 'publisher', 'subscriber']

/**
 * Starts a server and restarts it after a crash, on the same data, at most `restartsMax` times.
 * @param onNotice receives news for the operator.
 * @param fileBytesMax limit for all streams, from storage.ts.
 */
export async function startNats(
  config: Config,
  folder: DataFolder,
  port: number,
  onNotice: (text: string) => void,
  fileBytesMax?: number,
  restartsMax = restartsMaxDefault,
  moreUsers: readonly NatsUser[] = [],
): Promise<Nats> {
  const passwords = ensurePasswords(folder)
  const users: NatsUser[] = [
    { role: 'core', user: 'core', password: passwords.core },
    { role: 'transport', user: 'transport', password: passwords.transport },
    { role: 'admin', user: 'admin', password: passwords.admin },
    { role: 'publisher', user: 'publisher', password: passwords.publisher, project: sampleProject },
    { role: 'subscriber', user: 'subscriber', password: passwords.subscriber, project: sampleProject },
    ...moreUsers,
  ]
  const dataDir = folder.file(natsFolder)
  const server = await startNatsServer({
    dataDir,
    users,
    split: config.store.split,
    port,
    ...(fileBytesMax !== undefined && { fileBytesMax }),
  })
  folder.write('nats.json', { pid: server.pid })
  void keepAlive(server, folder, onNotice, restartsMax)
  return natsAt(config, server.url, server, (role) => ({ user: role, password: passwords[role] }))
}

/** Uses a server that runs already. Every part connects with the credentials of the configuration. */
export function natsGiven(config: Config): Nats {
  const { url, user, password } = config.nats
  return natsAt(config, url, null, () => ({ user, password }))
}

function natsAt(
  config: Config,
  url: string,
  server: NatsServer | null,
  credentials: (role: Role) => { user: string; password: string },
): Nats {
  return {
    url,
    server,
    settingsAs: (role) => ({ ...config.nats, url, ...credentials(role) }),
    environmentAs: (role) => {
      const { user, password } = credentials(role)
      return { BOREALIS_NATS_URL: url, BOREALIS_NATS_USER: user, BOREALIS_NATS_PASSWORD: password }
    },
  }
}

/** Keeps the passwords from one start to the next, so that tools need to be configured only once. */
function ensurePasswords(folder: DataFolder): Record<Role, string> {
  const known = folder.read<Partial<Record<Role, string>>>('nats-users.json') ?? {}
  const fresh = () => randomBytes(18).toString('base64url')
  const passwords = Object.fromEntries(roles.map((role) => [role, known[role] ?? fresh()])) as Record<Role, string>
  folder.write('nats-users.json', passwords)
  return passwords
}

/**
 * Ends the nats-server of an earlier `borealis start` that was killed, because two servers would destroy one store. Parts
 * written in Node end together with their parent. Call it before the ports are checked, because the server may hold one.
 */
export async function endOrphan(folder: DataFolder, onNotice: (text: string) => void): Promise<void> {
  const pid = folder.read<{ pid: number }>('nats.json')?.pid
  if (pid === undefined || !commandOf(pid).includes(folder.file(natsFolder))) return
  onNotice(`ending the nats-server (pid ${pid}) that a killed start left behind`)
  process.kill(pid, 'SIGTERM')
  for (let waitedMs = 0; commandOf(pid) !== ''; waitedMs += pollMs) {
    if (waitedMs > orphanMsMax) throw new CommandError(`nats-server (pid ${pid}) of this data folder does not end`)
    await setTimeout(pollMs)
  }
}

const pollMs = 50
const orphanMsMax = 10_000

/** Command line of a process; empty if there is no such process or no /proc. */
function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}

const restartsMaxDefault = 5

async function keepAlive(
  server: NatsServer,
  folder: DataFolder,
  onNotice: (text: string) => void,
  restartsMax: number,
): Promise<void> {
  for (let restarts = 0; ; restarts++) {
    const { pid } = server
    await server.exited
    if (stopped.has(server)) return
    if (restarts >= restartsMax) {
      onNotice(`nats-server (pid ${pid}) ended again after ${restarts} restarts: it stays away`)
      return
    }
    onNotice(`nats-server (pid ${pid}) ended unexpectedly: starting it again`)
    try {
      await server.start()
      folder.write('nats.json', { pid: server.pid })
      onNotice('nats-server is back')
    } catch (error) {
      // It ended during its start. That counts as one restart, and the next one follows.
      onNotice((error as Error).message)
      await setTimeout(pollMs)
    }
  }
}

/** Servers that we stopped ourselves. Their end is not a crash. */
const stopped = new WeakSet<NatsServer>()

export async function stopNats(nats: Nats): Promise<void> {
  if (nats.server === null) return
  stopped.add(nats.server)
  await nats.server.stop()
}
