import { accessSync, constants, existsSync, statSync } from 'node:fs'
import { PrepareError, run, say } from './say.mjs'

/**
 * Installs packages of the system. `what` is missing and `remedy` is what a person can do instead; both go into the one line
 * that a failure shows. Resolves with the words that elevate a command to root: none for root, sudo for others.
 */
export async function installByApt(packages, { what, remedy }) {
  if (!executable('/usr/bin/apt-get')) throw new PrepareError(`there is no ${what} and no apt-get: ${remedy}`)
  const elevate = await elevation(what, remedy)
  say(`installing ${what} by apt ...`)
  const install = ['install', '-y', '--no-install-recommends', ...packages]
  // The lists of a fresh machine are empty; those of an old one may name files that are gone. Both mend by one update.
  let result = await apt(elevate, install)
  if (result.code !== 0) {
    say('updating the package lists ...')
    const update = await apt(elevate, ['update'])
    result = await apt(elevate, install)
    if (result.code !== 0) {
      const said = [update.code === 0 ? '' : update.tail, result.tail].join('\n').trim()
      throw new PrepareError(`apt-get could not install ${what} (${remedy}):\n${said}`)
    }
  }
  return elevate
}

/** A daemon's package starts a service of its own, with the system, on a well-known port. Nobody asked for that one. */
export async function silenceService(elevate, service) {
  if (!existsSync('/run/systemd/system')) return
  const [program, ...args] = [...elevate, 'systemctl', 'disable', '--now', service]
  const { code } = await run(program, args)
  if (code !== 0) say(`the package's own ${service} could not be switched off`)
}

export function executable(path) {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    // Absent and not executable are the same answer here.
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

/** The words before a command that needs root: none for root, sudo for others, who may be asked for a password. */
async function elevation(what, remedy) {
  if (process.getuid?.() === 0) return []
  if (!executable('/usr/bin/sudo')) {
    throw new PrepareError(`there is no ${what}, and installing it needs root or sudo: ${remedy}`)
  }
  if (process.stdin.isTTY) return ['sudo']
  const probe = await run('sudo', ['-n', 'true'])
  if (probe.code === 0) return ['sudo', '-n']
  throw new PrepareError(`there is no ${what}, and sudo asks for a password without a terminal: ${remedy}`)
}
