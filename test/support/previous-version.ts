/**
 * The test of an upgrade: the previous version runs beside this one under load, and is replaced part by part. No accepted
 * message is lost, and no app gets one twice.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { readStoreFormat } from '../../src/store/format.js'
import { type Part, Upgrade } from './upgrade.js'

/**
 * The previous version: the newest commit of `main` whose store and wire this version works with. Move it to the commit
 * of a release when that release is made. If this version cannot work with a commit, the store or the wire has changed
 * incompatibly: raise STORE_FORMAT (src/store/format.ts) and describe the change in CHANGELOG.md.
 */
const PREVIOUS = '8e6dc321994c142204b815f6b89780fde3b13ddd'

const git = (...args: string[]) => {
  try {
    return execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return ''
  }
}
const commit = git('rev-parse', '--verify', '--quiet', `${PREVIOUS}^{commit}`)
const skip = commit === '' && `this clone has no history with commit ${PREVIOUS}: the upgrade from it is not tested`

/** Adds the test of an upgrade in one order. The orders are a test file each, because each builds the previous version. */
export function testUpgrade(order: readonly Part[]): void {
  const [first, second] = order
  t.test(`${first}s first, then ${second}s: each accepted message reaches its device once`, { skip }, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'borealis-upgrade-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    const run = await Upgrade.start(join(folder, 'system'), buildPrevious(join(folder, 'previous')))
    t.teardown(() => run.stop())
    await run.during(1_500)
    for (const part of order) {
      for (const index of [0, 1]) {
        await run.replace(part, index)
        await run.during(1_500)
      }
    }
    await run.quiet()
    t.ok(run.accepted.length > 100, `${run.accepted.length} messages were accepted`)
    t.same(await run.missing(), [], 'each reached its device')
    t.same(run.twice(), [], 'no app got a message twice')
    t.equal(await run.pending(), 0, 'no target is pending')
    t.match(await readStoreFormat(await run.system.brokerAs('admin')), { format: 1, restores: 0 })
  })
}

/** Clones the commit and builds it with its own script. Returns the path of its command. */
function buildPrevious(folder: string): string {
  execFileSync('git', ['clone', '--quiet', '--no-checkout', '.', folder])
  execFileSync('git', ['-c', 'advice.detachedHead=false', 'checkout', '--quiet', '--detach', commit], { cwd: folder })
  const packages = (root: string) => {
    const { packages: all } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))
    return JSON.stringify({ ...all, '': { ...all[''], version: '' } })
  }
  if (packages('.') === packages(folder)) {
    // The packages are the same. Copying them needs no network.
    cpSync('node_modules', join(folder, 'node_modules'), { recursive: true, verbatimSymlinks: true })
    execFileSync(process.execPath, ['scripts/build.mjs'], { cwd: folder, stdio: 'ignore' })
  } else execFileSync(process.execPath, ['scripts/prepare.mjs'], { cwd: folder, stdio: 'ignore' })
  return join(folder, 'dist/src/cli.js')
}
