import { createHash } from 'node:crypto'
import { existsSync, lstatSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PrepareError, run, say } from './say.mjs'

const stampName = '.borealis-packages'

/**
 * Installs what package-lock.json names, when node_modules is absent or the lock changed since.
 *
 * `npm install --no-save` and not `npm ci`: ci refuses a lock that lacks the binaries of other platforms, which is what
 * npm writes behind a registry that does not carry them. Versions and integrity come from the lock either way, and the
 * lock is not touched.
 */
export async function installPackages(root) {
  const modules = join(root, 'node_modules')
  // A link is somebody's shared folder; it is theirs to keep up to date.
  if (existsSync(modules) && lstatSync(modules).isSymbolicLink()) return
  const stamp = join(modules, stampName)
  const wanted = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .update(process.version)
    .digest('hex')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return
  say('installing npm packages ...')
  const args = ['install', '--no-save', '--no-audit', '--no-fund', '--include=dev', '--loglevel=error']
  const { code, tail } = await run('npm', args, { cwd: root })
  if (code !== 0) {
    throw new PrepareError(`npm could not install the packages (is the registry reachable?):\n${tail.trim()}`)
  }
  writeFileSync(stamp, wanted)
}
