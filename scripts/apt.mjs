import { accessSync, constants, existsSync, statSync } from 'node:fs'
import { PrepareError, run, say } from './say.mjs'

/**
 * Installs system packages. `name` is that of the missing program and `remedy` an alternative for the user; a failure shows both.
 * Resolves with the words that run a command as root: none for root, `sudo` for other users.
 */
export async function installByApt(packages, { name, remedy }) {
  if (!executable('/usr/bin/apt-get')) throw new PrepareError(`${name} is missing and there is no apt-get: ${remedy}`)
  const elevate = await elevation(name, remedy)
  say(`installing ${name} by apt ...`)
  const install = ['install', '-y', '--no-install-recommends', ...packages]
  // The package lists of a new machine are empty, and old ones may name files that no longer exist. An update helps both.
  let result = await apt(elevate, install)
  if (result.code !== 0) {
    say('updating the package lists ...')
    const update = await apt(elevate, ['update'])
    result = await apt(elevate, install)
    if (result.code !== 0) {
      const output = [update.code === 0 ? '' : update.tail, result.tail].join('\n').trim()
      throw new PrepareError(`apt-get could not install ${name} (${remedy}):\n${output}`)
    }
  }
  return elevate
}

/** Disables the service that a daemon's package starts on a well-known port: this repository starts its own daemons. */
export async function disableService(elevate, service) {
  if (!existsSync('/run/systemd/system')) return
  const [program, ...args] = [...elevate, 'systemctl', 'disable', '--now', service]
  const { code } = await run(program, args)
  if (code !== 0) say(`the ${service} of the package could not be disabled`)
}

export function executable(path) {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    // An absent file is not executable either.
    return false
  }
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

/** The words that run a command as root. sudo may ask for a password only on a terminal. */
async function elevation(name, remedy) {
  if (process.getuid?.() === 0) return []
  if (!executable('/usr/bin/sudo')) {
    throw new PrepareError(`${name} is missing, and its installation needs root or sudo: ${remedy}`)
  }
  if (process.stdin.isTTY) return ['sudo']
  const probe = await run('sudo', ['-n', 'true'])
  if (probe.code === 0) return ['sudo', '-n']
  throw new PrepareError(`${name} is missing, and sudo cannot ask for a password without a terminal: ${remedy}`)
}
