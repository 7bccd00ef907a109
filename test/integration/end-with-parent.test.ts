/** A killed process leaves no server behind, although it cannot clean up: a watcher ends the server. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { isAlive } from '../../bench/measure/processes.js'

const folder = mkdtempSync(join(tmpdir(), 'borealis-end-with-parent-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

const compiled = (path: string) => JSON.stringify(new URL(`../../${path}`, import.meta.url).href)
const END_WITH_PARENT = compiled('src/nats/server/end-with-parent.js')

/** Longer than the watcher needs: it polls every two seconds, and waits ten between SIGTERM and SIGKILL. */
const GONE_MS_MAX = 40_000

async function isGone(pid: number): Promise<boolean> {
  const deadlineMs = performance.now() + GONE_MS_MAX
  while (isAlive(pid)) {
    if (performance.now() > deadlineMs) return false
    await sleep(50)
  }
  return true
}

/** Runs a program that prints process ids in one line. Resolves with the process and those ids. */
async function start(source: string, environment: NodeJS.ProcessEnv = process.env) {
  const parent = spawn(process.execPath, ['--input-type=module', '-e', source], {
    env: environment,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [line] = (await once(createInterface({ input: parent.stdout }), 'line')) as [string]
  const pids = line.split(' ').map(Number)
  t.teardown(() => {
    for (const pid of [parent.pid ?? 0, ...pids]) if (pid > 0 && isAlive(pid)) process.kill(pid, 'SIGKILL')
  })
  return { parent, pids }
}

async function kill(parent: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  const exit = once(parent, 'exit')
  parent.kill(signal)
  await exit
}

/** The process ids of the watchers of `pid`. */
function watchersOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((candidate) => {
      try {
        return readFileSync(`/proc/${candidate}/cmdline`, 'utf8').endsWith(`end-with-parent\0${pid}\0`)
      } catch {
        return false // The process ended between the two reads.
      }
    })
}

/** A program that starts a child with endWithParent(), and prints its process id. The child runs `statement` first. */
const parentOfSleeper = (statement: string) => `
  import { spawn } from 'node:child_process'
  import { endWithParent } from ${END_WITH_PARENT}
  const child = spawn(process.execPath, ['-e', ${JSON.stringify(`${statement}; setInterval(() => 1, 1_000); console.log('up')`)}], {
    detached: true,
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  endWithParent(child)
  child.stdout.once('data', () => console.log(child.pid))
  setInterval(() => 1, 1_000)
`

for (const signal of ['SIGKILL', 'SIGHUP'] as const) {
  t.test(`nats-server ends after ${signal} has ended its parent`, async (t) => {
    const { parent, pids } = await start(`
      import { startNatsServer } from ${compiled('src/nats/server/server-process.js')}
      const dataDir = ${JSON.stringify(join(folder, signal))}
      const server = await startNatsServer({ dataDir, users: [], split: 1 })
      console.log(server.pid)
    `)
    const [natsServer = 0] = pids
    t.ok(isAlive(natsServer))
    await kill(parent, signal)
    t.ok(await isGone(natsServer))
  })
}

t.test('a child that ignores SIGTERM is killed after its parent has ended', async (t) => {
  const { parent, pids } = await start(parentOfSleeper("process.on('SIGTERM', () => undefined)"))
  const [child = 0] = pids
  await kill(parent, 'SIGKILL')
  await sleep(4_000)
  t.ok(isAlive(child), 'alive after SIGTERM')
  t.ok(await isGone(child))
})

t.test('the watcher lets the child live while the parent lives, and ends with the child', async (t) => {
  const { parent, pids } = await start(parentOfSleeper(''))
  const [child = 0] = pids
  const [watcher = 0, ...others] = watchersOf(child)
  t.ok(watcher > 0)
  t.same(others, [])
  await sleep(3_000)
  t.ok(isAlive(child))
  process.kill(child, 'SIGKILL')
  t.ok(await isGone(watcher))
  await kill(parent, 'SIGKILL')
})

t.test('a test program ends after its runner is killed', async (t) => {
  const marker = join(folder, 'test-program')
  const program = `
    import { writeFileSync } from 'node:fs'
    writeFileSync(${JSON.stringify(marker)}, String(process.pid))
    process.stdin.resume()
    setInterval(() => 1, 1_000)
  `
  const { parent, pids } = await start(`
    import { existsSync, readFileSync, writeFileSync } from 'node:fs'
    import { runFiles } from ${JSON.stringify(pathToFileURL('scripts/tap.mjs').href)}
    writeFileSync(${JSON.stringify(`${marker}.mjs`)}, ${JSON.stringify(program)})
    void runFiles(${JSON.stringify(folder)}, ['test-program.mjs'], { jobs: 1, timeoutSeconds: 200 })
    const timer = setInterval(() => {
      if (!existsSync(${JSON.stringify(marker)})) return
      clearInterval(timer)
      console.log(readFileSync(${JSON.stringify(marker)}, 'utf8'))
    }, 50)
  `)
  const [testProgram = 0] = pids
  t.ok(isAlive(testProgram))
  await kill(parent, 'SIGKILL')
  t.ok(await isGone(testProgram))
})

t.test('a script that npm started ends when npm is killed, and one that a shell started goes on', async (t) => {
  const script = `
    const { onNpmEnded } = await import(${END_WITH_PARENT})
    onNpmEnded(() => process.exit(7))
    setInterval(() => 1, 1_000)
    console.log(process.pid)
  `
  const parentWith = (lifecycleEvent: string | undefined) =>
    start(
      `import { spawn } from 'node:child_process'
       const env = { ...process.env, npm_lifecycle_event: ${JSON.stringify(lifecycleEvent)} }
       spawn(process.execPath, ['--input-type=module', '-e', ${JSON.stringify(script)}], { env, stdio: ['ignore', 'inherit', 'inherit'] })`,
    )
  const [underNpm, underShell] = await Promise.all([parentWith('bench'), parentWith(undefined)])
  await Promise.all([kill(underNpm.parent, 'SIGKILL'), kill(underShell.parent, 'SIGKILL')])
  t.ok(await isGone(underNpm.pids[0] ?? 0))
  t.ok(isAlive(underShell.pids[0] ?? 0), 'a shell may end and leave a script in the background')
})
