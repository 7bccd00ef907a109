import { delimiter, join } from 'node:path'
import { executable, installByApt, silenceService } from './apt.mjs'
import { PrepareError } from './say.mjs'

/** Debian puts daemons where an ordinary user's PATH does not look. */
const extraFolders = ['/usr/sbin', '/usr/local/sbin', '/usr/local/bin']

/** Path of the nats-server to use, or null where there is none. */
export function findNatsServer(environment) {
  const named = environment.NATS_SERVER_BIN
  if (named) {
    if (executable(named)) return named
    throw new PrepareError(`NATS_SERVER_BIN names ${named}, which is not an executable file`)
  }
  const folders = [...(environment.PATH ?? '').split(delimiter).filter(Boolean), ...extraFolders]
  return folders.map((folder) => join(folder, 'nats-server')).find(executable) ?? null
}

/** Installs nats-server by apt, unless there is one or NATS_URL names a running one (`optional`). */
export async function ensureNatsServer(environment, { optional }) {
  if (optional && environment.NATS_URL) return
  if (findNatsServer(environment) !== null) return
  const remedy = 'install nats-server yourself, or name it with NATS_SERVER_BIN'
  const elevate = await installByApt(['nats-server'], { what: 'nats-server', remedy })
  if (findNatsServer(environment) === null) {
    throw new PrepareError(`apt-get installed nats-server, but it is not on the PATH: ${remedy}`)
  }
  await silenceService(elevate, 'nats-server.service')
}
