import { accessSync, constants, existsSync, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { PrepareError, run, say } from './say.mjs'

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
  if (!executable('/usr/bin/apt-get')) throw new PrepareError(`there is no nats-server and no apt-get: ${remedy}`)
  const elevate = await elevation(remedy)
  say('installing nats-server by apt ...')
  const install = ['install', '-y', '--no-install-recommends', 'nats-server']
  // The lists of a fresh machine are empty; those of an old one may name files that are gone. Both mend by one update.
  let result = await apt(elevate, install)
  if (result.code !== 0) {
    say('updating the package lists ...')
    const update = await apt(elevate, ['update'])
    result = await apt(elevate, install)
    if (result.code !== 0) {
      const said = [update.code === 0 ? '' : update.tail, result.tail].join('\n').trim()
      throw new PrepareError(`apt-get could not install nats-server (${remedy}):\n${said}`)
    }
  }
  if (findNatsServer(environment) === null) {
    throw new PrepareError(`apt-get installed nats-server, but it is not on the PATH: ${remedy}`)
  }
  await silenceService(elevate)
}

/** The package starts a server of its own, with the system, open on port 4222. Nobody asked for that one. */
async function silenceService(elevate) {
  if (!existsSync('/run/systemd/system')) return
  const [program, ...args] = [...elevate, 'systemctl', 'disable', '--now', 'nats-server.service']
  const { code } = await run(program, args)
  if (code !== 0) say("the package's own nats-server service could not be switched off; it uses port 4222")
}

function apt(elevate, args) {
  const [program, ...rest] = [
    ...elevate,
    'env',
    'DEBIAN_FRONTEND=noninteractive',
    'apt-get',
    '-q',
    '-o',
    'DPkg::Lock::Timeout=120',
    ...args,
  ]
  return run(program, rest, { input: process.stdin.isTTY ? 'inherit' : 'ignore' })
}

/** The words before a command that needs root: none for root, sudo for others, who may be asked for a password. */
async function elevation(remedy) {
  if (process.getuid?.() === 0) return []
  if (!executable('/usr/bin/sudo')) {
    throw new PrepareError(`there is no nats-server, and installing it needs root or sudo: ${remedy}`)
  }
  if (process.stdin.isTTY) return ['sudo']
  const probe = await run('sudo', ['-n', 'true'])
  if (probe.code === 0) return ['sudo', '-n']
  throw new PrepareError(`there is no nats-server, and sudo asks for a password without a terminal: ${remedy}`)
}

function executable(path) {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    // Absent and not executable are the same answer here.
    return false
  }
}
