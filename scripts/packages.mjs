import { createHash } from 'node:crypto'
import { existsSync, lstatSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PrepareError, run, say } from './say.mjs'

const stampName = '.borealis-packages'

/**
 * Runs `npm ci` if node_modules is absent, or if package-lock.json or the Node version changed since the last run.
 * A stamp inside node_modules records both, so an unchanged tree costs two file reads.
 */
export async function installPackages(root) {
  const modules = join(root, 'node_modules')
  // A symbolic link leads to a folder that other trees share. `npm ci` would replace it, so its owner updates it.
  if (existsSync(modules) && lstatSync(modules).isSymbolicLink()) return
  const stamp = join(modules, stampName)
  const wanted = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .update(process.version)
    .digest('hex')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return
  say('installing npm packages ...')
  const args = ['ci', '--no-audit', '--no-fund', '--include=dev', '--loglevel=error']
  const { code, tail } = await run('npm', args, { cwd: root })
  if (code !== 0) {
    throw new PrepareError(`npm ci failed (is the package registry reachable?):\n${tail.trim()}`)
  }
  writeFileSync(stamp, wanted)
}
