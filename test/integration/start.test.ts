import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { setInterval } from 'node:timers/promises'
import { promisify } from 'node:util'
import t from 'tap'

/** `borealis start` as a user runs it: its output in the terminal, the command that it prints, and Ctrl-C. */

const program = resolve('dist/src/cli.js')

interface Terminal {
  process: ChildProcess
  lines: string[]
  /** Resolves with the first line that matches. Rejects with the whole output if the process ends before. */
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
  const checks = new Set<() => void>()
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      lines.push(line)
      for (const check of checks) check()
    })
  }
  const ended = once(child, 'close').then(([code]) => code as number | null)
  const line = (pattern: RegExp) =>
    new Promise<string>((resolve, reject) => {
      const check = () => {
        const found = lines.find((text) => pattern.test(text))
        if (found === undefined) return
        checks.delete(check)
        resolve(found)
      }
      checks.add(check)
      check()
      void ended.then(() => reject(new Error(`borealis start ended without ${pattern}:\n${lines.join('\n')}`)))
    })
  return { process: child, lines, line, ended }
}

const freePorts = { BOREALIS_HTTP_PORT: '0', BOREALIS_TRANSPORT_PORT: '0', BOREALIS_START_NATS_PORT: '0' }

/** The environment without the variables of the test runner, which `borealis start` would pass on to its processes. */
function ownEnvironment(): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/TAP|^NODE_OPTIONS$|^NATS_URL$/.test(name)))
}

/** The processes started with this data folder: child processes inherit the variable that names it. */
function processesOf(folder: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && name !== String(process.pid))
    .flatMap((pid) => {
      try {
        const isOurs = readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`BOREALIS_START_DATA_FOLDER=${folder}/`)
        return isOurs ? [`${pid} ${readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')}`] : []
      } catch {
        // The process ended between the two reads.
        return []
      }
    })
}

/** Reads the status of a message with the address and token of the printed command, until the message has ended. */
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

/** Runs the printed command in a shell. */
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

t.test('borealis start', async (t) => {
  const folder = temporary(t)
  const terminal = start(folder)
  t.teardown(() => terminal.process.kill('SIGKILL'))
  await terminal.line(/ready: waiting for pushes/)

  await t.test('prints a command that sends a push, and shows the push', async (t) => {
    const first = await push(terminal)
    t.match(first, { id: /^\d+$/, status: 'accepted' })
    await terminal.line(/>> Hello/)
    await terminal.line(new RegExp(`${first.id} for app_`))
    t.equal(await finalStatus(terminal, first.id), 'delivered')
  })

  await t.test('starts a killed core again, which accepts a push', async (t) => {
    const core = processesOf(folder).find((line) => / core $/.test(line)) ?? ''
    process.kill(Number.parseInt(core, 10), 'SIGKILL')
    await terminal.line(/core ended unexpectedly \(SIGKILL\)/)
    await terminal.line(/core is back/)
    const second = await push(terminal)
    t.ok(await terminal.line(new RegExp(`${second.id} for app_`)))
  })

  await t.test('leaves no process after Ctrl-C', async (t) => {
    t.ok(processesOf(folder).length >= 5, 'start, NATS, core, transport and device run')
    terminal.process.kill('SIGINT')
    t.equal(await terminal.ended, 0)
    t.match(terminal.lines.at(-1), /stopped$/)
    t.same(processesOf(folder), [])
  })
})

/** Runs a command in a pseudo-terminal, presses Ctrl-C once at the text, and prints the exit code. */
const PRESS_CTRL_C = `
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
seen, pressed = b'', False
while True:
    try:
        part = os.read(terminal, 65536)
    except OSError:
        break
    if not part:
        break
    seen += part
    if not pressed and sys.argv[1].encode() in seen:
        pressed = True
        os.write(terminal, b'\\x03')
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stdout.buffer.write(seen + b'\\nexit code ' + str(code).encode())
`

t.test('Ctrl-C at a real terminal stops npm start in order, although npm sends the signal again', async (t) => {
  const folder = temporary(t)
  const scripts = { start: `exec ${process.execPath} ${program} start` }
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'installed', private: true, scripts }))
  const { stdout } = await promisify(execFile)(
    'python3',
    ['-c', PRESS_CTRL_C, 'ready: waiting for pushes', 'npm', 'start'],
    {
      cwd: folder,
      env: { ...ownEnvironment(), ...freePorts, BOREALIS_START_DATA_FOLDER: join(folder, 'data') } as NodeJS.ProcessEnv,
      maxBuffer: 1 << 24,
    },
  )
  t.match(stdout, /stopping: device, transport, core, NATS/)
  t.match(stdout, /stopped\r?\n/)
  t.notMatch(stdout, /exiting at once/)
  t.match(stdout, /exit code (0|130)$/)
  t.same(processesOf(folder), [])
})

t.test('borealis start with a port in use ends with code 1, names the setting, and leaves no process', async (t) => {
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

t.test('after borealis start was killed, a new start shows a push, and leaves no process after SIGTERM', async (t) => {
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

t.test(
  'with metrics.port, npm start serves the metrics of the core there and those of the transport at the next port',
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'borealis-start-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    const port = await twoFreePorts()
    const terminal = start(folder, { BOREALIS_METRICS_PORT: String(port), BOREALIS_START_DEVICE: 'false' })
    await terminal.line(/ready: waiting for pushes/)
    t.ok(
      terminal.lines.some((line) => line.includes(`127.0.0.1:${port}/metrics, http://127.0.0.1:${port + 1}/metrics`)),
    )
    const metricsAt = async (at: number) => (await fetch(`http://127.0.0.1:${at}/metrics`)).text()
    t.match(await metricsAt(port), /borealis_core_/)
    t.match(await metricsAt(port + 1), /borealis_transport_/)
    terminal.process.kill('SIGINT')
    t.equal(await terminal.ended, 0)
  },
)

async function twoFreePorts(): Promise<number> {
  for (;;) {
    const [first, second] = [createServer(), createServer()]
    first.listen(0, '127.0.0.1')
    await once(first, 'listening')
    const address = first.address()
    const port = typeof address === 'object' && address ? address.port : 0
    const isFree = await new Promise<boolean>((resolve) => {
      second.once('error', () => resolve(false)).listen(port + 1, '127.0.0.1', () => resolve(true))
    })
    await Promise.all([first, second].map((server) => new Promise((done) => server.close(done))))
    if (isFree) return port
  }
}
