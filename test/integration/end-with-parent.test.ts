/** A process that is killed leaves no server behind, although it cannot clean up. */
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

/** More than the watcher needs: it looks every two seconds and waits ten between SIGTERM and SIGKILL. */
const GONE_MS_MAX = 40_000

async function isGone(pid: number): Promise<boolean> {
  const deadline = performance.now() + GONE_MS_MAX
  while (isAlive(pid)) {
    if (performance.now() > deadline) return false
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
        return false // It ended between the two reads.
      }
    })
}

const sleeper = (options: string) => `
  import { spawn } from 'node:child_process'
  import { endWithParent } from ${END_WITH_PARENT}
  const child = spawn(process.execPath, ['-e', ${JSON.stringify(`${options}; setInterval(() => 1, 1_000); console.log('up')`)}], {
    detached: true,
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  endWithParent(child)
  child.stdout.once('data', () => console.log(child.pid))
  setInterval(() => 1, 1_000)
`

for (const signal of ['SIGKILL', 'SIGHUP'] as const) {
  t.test(`nats-server ends after ${signal} ended its parent`, async (t) => {
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
  const { parent, pids } = await start(sleeper("process.on('SIGTERM', () => undefined)"))
  const [child = 0] = pids
  await kill(parent, 'SIGKILL')
  await sleep(4_000)
  t.ok(isAlive(child), 'SIGTERM alone does not end it')
  t.ok(await isGone(child))
})

t.test('the watcher ends with the child, and ends nothing while child and parent live', async (t) => {
  const { parent, pids } = await start(sleeper(''))
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
    const look = setInterval(() => {
      if (!existsSync(${JSON.stringify(marker)})) return
      clearInterval(look)
      console.log(readFileSync(${JSON.stringify(marker)}, 'utf8'))
    }, 50)
  `)
  const [testProgram = 0] = pids
  t.ok(isAlive(testProgram))
  await kill(parent, 'SIGKILL')
  t.ok(await isGone(testProgram))
})

t.test('a script ends when npm is killed, and goes on when a shell is', async (t) => {
  const script = `
    const { onNpmEnded } = await import(${END_WITH_PARENT})
    onNpmEnded(() => process.exit(7))
    setInterval(() => 1, 1_000)
    console.log(process.pid)
  `
  const npm = (name: string | undefined) =>
    start(
      `import { spawn } from 'node:child_process'
       const env = { ...process.env, npm_lifecycle_event: ${JSON.stringify(name)} }
       spawn(process.execPath, ['--input-type=module', '-e', ${JSON.stringify(script)}], { env, stdio: ['ignore', 'inherit', 'inherit'] })`,
    )
  const [underNpm, underShell] = await Promise.all([npm('bench'), npm(undefined)])
  await Promise.all([kill(underNpm.parent, 'SIGKILL'), kill(underShell.parent, 'SIGKILL')])
  t.ok(await isGone(underNpm.pids[0] ?? 0))
  t.ok(isAlive(underShell.pids[0] ?? 0), 'a shell may end and leave a run in the background')
})
