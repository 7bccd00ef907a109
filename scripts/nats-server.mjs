import { delimiter, join } from 'node:path'
import { disableService, executable, installByApt } from './apt.mjs'
import { PrepareError } from './say.mjs'

/** Debian installs daemons into folders that are not on the PATH of an ordinary user. */
const extraFolders = ['/usr/sbin', '/usr/local/sbin', '/usr/local/bin']

/** Path of nats-server, or null if there is none. */
export function findNatsServer(environment) {
  const named = environment.NATS_SERVER_BIN
  if (named) {
    if (executable(named)) return named
    throw new PrepareError(`NATS_SERVER_BIN names ${named}, but that is not an executable file`)
  }
  const folders = [...(environment.PATH ?? '').split(delimiter).filter(Boolean), ...extraFolders]
  return folders.map((folder) => join(folder, 'nats-server')).find(executable) ?? null
}

/** Installs nats-server by apt if it is missing. With `optional`, a running server named by NATS_URL suffices. */
export async function ensureNatsServer(environment, { optional }) {
  if (optional && environment.NATS_URL) return
  if (findNatsServer(environment) !== null) return
  const remedy = 'install nats-server yourself, or set NATS_SERVER_BIN to its path'
  const elevate = await installByApt(['nats-server'], { name: 'nats-server', remedy })
  if (findNatsServer(environment) === null) {
    throw new PrepareError(`apt-get installed nats-server, but it is not on the PATH: ${remedy}`)
  }
  await disableService(elevate, 'nats-server.service')
}
