import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { setInterval } from 'node:timers/promises'
import { promisify } from 'node:util'
import t from 'tap'

/** `borealis start` as a user runs it: the terminal output, the printed command, Ctrl-C. */

const program = resolve('dist/src/cli.js')

interface Terminal {
  process: ChildProcess
  lines: string[]
  /** Resolves with the first line that matches. Rejects with the whole output where the process ends before. */
  line(pattern: RegExp): Promise<string>
  /** Resolves with the exit code. */
  ended: Promise<number | null>
}

function start(folder: string, environment: Record<string, string> = {}): Terminal {
  const child = spawn(process.execPath, [program, 'start'], {
    cwd: folder,
    env: { ...ownEnvironment(), ...freePorts, BOREALIS_START_DATA_FOLDER: join(folder, 'data'), ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const lines: string[] = []
  const looks = new Set<() => void>()
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      lines.push(line)
      for (const look of looks) look()
    })
  }
  const ended = once(child, 'close').then(([code]) => code as number | null)
  const line = (pattern: RegExp) =>
    new Promise<string>((resolve, reject) => {
      const look = () => {
        const found = lines.find((text) => pattern.test(text))
        if (found === undefined) return
        looks.delete(look)
        resolve(found)
      }
      looks.add(look)
      look()
      void ended.then(() => reject(new Error(`it ended without ${pattern}:\n${lines.join('\n')}`)))
    })
  return { process: child, lines, line, ended }
}

const freePorts = { BOREALIS_HTTP_PORT: '0', BOREALIS_TRANSPORT_PORT: '0', BOREALIS_START_NATS_PORT: '0' }

/** The environment without the variables of the test runner, which the product would pass on to its processes. */
function ownEnvironment(): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/TAP|^NODE_OPTIONS$|^NATS_URL$/.test(name)))
}

/** Every process that was started from this folder: child processes inherit the variable that names it. */
function processesOf(folder: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && name !== String(process.pid))
    .flatMap((pid) => {
      try {
        const isOurs = readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`BOREALIS_START_DATA_FOLDER=${folder}/`)
        return isOurs ? [`${pid} ${readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')}`] : []
      } catch {
        // It ended between the two reads.
        return []
      }
    })
}

/** Reads the status with the address and token of the printed command until the message has ended. */
async function finalStatus(terminal: Terminal, id: string): Promise<string> {
  const command = terminal.lines.find((line) => /^(curl|node) /.test(line)) ?? ''
  const url = /http:\/\/[^ "']+\/messages/.exec(command)?.[0] ?? ''
  const authorization = /Bearer [\w.-]+/.exec(command)?.[0] ?? ''
  for await (const _ of setInterval(50)) {
    const answer = await fetch(`${url}/${id}`, { headers: { authorization } })
    const { status } = (await answer.json()) as { status: string }
    if (status !== 'accepted' && status !== 'pending') return status
  }
  return 'unknown'
}

async function push(terminal: Terminal): Promise<{ id: string; status: string }> {
  const command = terminal.lines.find((line) => /^(curl|node) /.test(line)) ?? 'false'
  const { stdout } = await promisify(execFile)('sh', ['-c', command])
  return JSON.parse(stdout)
}

function temporary(t: Tap): string {
  const folder = mkdtempSync(join(tmpdir(), 'borealis-e2e-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

type Tap = Pick<typeof t, 'teardown'>

t.setTimeout(240_000)

t.test('the printed command shows a push, a crashed core comes back, and Ctrl-C leaves no process', async (t) => {
  const folder = temporary(t)
  const terminal = start(folder)
  t.teardown(() => terminal.process.kill('SIGKILL'))
  await terminal.line(/ready: waiting for pushes/)

  const first = await push(terminal)
  t.match(first, { id: /^\d+$/, status: 'accepted' })
  await terminal.line(/>> Hello/)
  await terminal.line(new RegExp(`${first.id} for app_`))
  t.equal(await finalStatus(terminal, first.id), 'delivered')

  const core = processesOf(folder).find((line) => / core $/.test(line)) ?? ''
  process.kill(Number.parseInt(core, 10), 'SIGKILL')
  await terminal.line(/core ended unexpectedly \(SIGKILL\)/)
  await terminal.line(/core is back/)
  const second = await push(terminal)
  await terminal.line(new RegExp(`${second.id} for app_`))

  t.ok(processesOf(folder).length >= 5, 'start, NATS, core, transport and device run')
  terminal.process.kill('SIGINT')
  t.equal(await terminal.ended, 0)
  t.match(terminal.lines.at(-1), /stopped$/)
  t.same(processesOf(folder), [])
})

t.test('a port in use ends the start with a message that names the setting, and no process is left', async (t) => {
  const taken = createServer().listen(0, '0.0.0.0')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const { port } = taken.address() as { port: number }
  const folder = temporary(t)
  const terminal = start(folder, { BOREALIS_TRANSPORT_PORT: String(port) })
  t.equal(await terminal.ended, 1)
  t.match(terminal.lines.join('\n'), new RegExp(`port ${port} .*in use.*transport.port, BOREALIS_TRANSPORT_PORT`))
  t.same(processesOf(folder), [])
})

t.test('after borealis start was killed, its processes end and a new start works', async (t) => {
  const folder = temporary(t)
  const killed = start(folder)
  await killed.line(/ready: waiting for pushes/)
  killed.process.kill('SIGKILL')
  await killed.ended
  const terminal = start(folder)
  t.teardown(() => terminal.process.kill('SIGKILL'))
  await terminal.line(/ready: waiting for pushes/)
  const { id } = await push(terminal)
  await terminal.line(new RegExp(`${id} for app_`))
  terminal.process.kill('SIGTERM')
  t.equal(await terminal.ended, 0)
  t.same(processesOf(folder), [])
})
