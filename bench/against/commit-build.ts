/** Clones one commit of this repository, and builds it with its own scripts. */
import { lstatSync, mkdirSync } from 'node:fs'
import { access, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Bench } from '../scenario.js'
import { AgainstError } from './error.js'
import { type Ended, runProgram } from './program.js'

/** Written into a kept build when it is complete. */
const COMPLETE = '.borealis-bench-complete'

type Run = Pick<Bench, 'defer' | 'progress'>

/** The full hash of a commit. `name` is any name that git accepts for a commit. */
export async function resolveCommit(bench: Run, repository: string, name: string): Promise<string> {
  const git = (...args: string[]) =>
    runProgram(bench, ['git', '-C', repository, ...args], { folder: repository, keepOutput: true })
  const prefix = await git('rev-parse', '--show-prefix')
  // A prefix means that the folder lies inside another repository.
  if (prefix.code !== 0 || prefix.output.trim() !== '') {
    throw new AgainstError('no_repository', `${repository} is no clone of the repository, so it has no other commits`)
  }
  const { code, output } = await git('rev-parse', '--verify', '--quiet', '--end-of-options', `${name}^{commit}`)
  if (code !== 0) {
    throw new AgainstError(
      'unknown_commit',
      `this repository has no commit "${name}". Fetch it first, or check its name.`,
    )
  }
  return output.trim()
}

export interface BuildOptions {
  /** Keeps the build for later runs. */
  keep: boolean
  /** Folder of the kept builds. Default: a folder of this user below the system's folder for temporary files. */
  cache?: string
}

/** Resolves with the folder of the build. A kept build is used again; any other is removed at the end of the run. */
export async function buildCommit(
  bench: Run,
  repository: string,
  commit: string,
  { keep, cache = join(tmpdir(), `borealis-bench-commits-${process.getuid?.() ?? 'user'}`) }: BuildOptions,
): Promise<string> {
  const { progress } = bench
  const short = commit.slice(0, 12)
  claimFolder(cache)
  const kept = join(cache, commit)
  if (await exists(join(kept, COMPLETE))) {
    progress.say(`commit ${short}: using the build in ${kept} (remove that folder to build it anew)`)
    return kept
  }
  const folder = await mkdtemp(join(cache, `${short}-`))
  bench.defer(async () => {
    if (!(await exists(folder))) return
    await rm(folder, { recursive: true, force: true })
    progress.say(`commit ${short}: removed its build (--keep-build keeps it for the next run)`)
  })
  const step = async (name: string, command: readonly [string, ...string[]]) => {
    progress.say(`commit ${short}: ${name}`)
    const onLine = (line: string) => progress.say(`commit ${short}: ${line.replace(/^borealis: /, '')}`)
    assertBuilt(await runProgram(bench, command, { folder, onLine, stopsGroup: true }), short, name)
  }
  // A local clone has every object of the repository, also commits that no branch holds any more.
  await step(`cloning into ${folder}`, ['git', 'clone', '--quiet', '--no-checkout', repository, '.'])
  await step('checking out', ['git', '-c', 'advice.detachedHead=false', 'checkout', '--quiet', '--detach', commit])
  if (!(await exists(join(folder, 'scripts', 'prepare.mjs')))) {
    throw new AgainstError('build_failed', `commit ${short} has no scripts/prepare.mjs, so bench cannot build it`)
  }
  await step('installing packages and building', [process.execPath, 'scripts/prepare.mjs'])
  if (!keep) return folder
  await writeFile(join(folder, COMPLETE), '')
  try {
    await rename(folder, kept)
  } catch {
    // Another run has kept a build of the same commit meanwhile. This one is removed at the end.
    return folder
  }
  progress.say(`commit ${short}: keeping the build in ${kept}`)
  return kept
}

function assertBuilt({ code, tail }: Ended, short: string, step: string): void {
  if (code === 0) return
  throw new AgainstError('build_failed', `commit ${short} could not be built (${step}). Its last lines:\n${tail}`)
}

/** Refuses a folder to which other users may write, because bench runs programs from it. */
function claimFolder(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const { uid, mode } = lstatSync(folder)
  if ((process.getuid === undefined || uid === process.getuid()) && (mode & 0o022) === 0) return
  throw new AgainstError(
    'build_failed',
    `${folder} belongs to another user, or others may write to it: remove it first`,
  )
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
