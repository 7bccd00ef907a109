import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import { DEAD_LETTERS_STREAM } from '../../protocol/subjects.js'
import { type Live, startLive } from '../device/live.js'
import { PUBLISHER_PROJECT } from '../support/nats.js'

/** The Python client, which is written from PROTOCOL.md alone, and the example publishers, against the whole service. */

type Event = { event: string } & Record<string, unknown>

const folder = resolve('protocol/clients/python')
const PROBE = 'import sys, websockets; sys.exit(sys.version_info < (3, 11))'
const python = ['/usr/bin/python3', 'python3'].find((program) => spawnSync(program, ['-c', PROBE]).status === 0)
const MISSING = 'no python3 of 3.11 or newer with websockets: apt-get install python3 python3-websockets'
const environment = { ...process.env, PYTHONDONTWRITEBYTECODE: '1' }

/** A process `python3 -m borealis --json`, and the events that it prints in order. */
class PythonDevice {
  readonly #child: ChildProcess
  readonly #ended: Promise<number | null>
  readonly #events: Event[] = []
  #onEvent: () => void = () => undefined
  #errorOutput = ''

  constructor(program: string, live: Live, ...more: string[]) {
    const enrolment = ['--enrol-url', live.coreUrl, '--enrolment-key', live.enrolmentKey]
    const own = [
      '--application',
      live.application,
      '--topic',
      'news',
      '--state',
      live.stateFile('python.json'),
      '--json',
    ]
    this.#child = spawn(program, ['-m', 'borealis', ...enrolment, ...own, ...more], {
      cwd: folder,
      env: environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    t.teardown(() => this.#child.kill('SIGKILL'))
    const { stdout, stderr } = this.#child
    if (!stdout || !stderr) throw new Error('the child has no pipes')
    createInterface({ input: stdout }).on('line', (line) => {
      this.#events.push(JSON.parse(line) as Event)
      this.#onEvent()
    })
    stderr.on('data', (chunk) => {
      this.#errorOutput += chunk
    })
    this.#ended = once(this.#child, 'close').then(([code]) => code as number | null)
  }

  /** Resolves with the next event of that name. Earlier events of other names are skipped. */
  async next(name: string): Promise<Event> {
    const ended = this.#ended.then((code) => {
      throw new Error(`the device ended with ${code} before ${name}: ${this.#errorOutput}`)
    })
    const found = new Promise<Event>((resolve) => {
      this.#onEvent = () => {
        const at = this.#events.findIndex(({ event }) => event === name)
        if (at < 0) return
        this.#onEvent = () => undefined
        resolve(this.#events.splice(0, at + 1).at(-1) as Event)
      }
      this.#onEvent()
    })
    return Promise.race([found, ended])
  }

  stop(): Promise<number | null> {
    this.#child.kill('SIGTERM')
    return this.#ended
  }
}

t.test('the Python client on the live service', async (t) => {
  if (python === undefined) {
    t.fail(MISSING)
    return
  }
  const live = await startLive(t)
  const device = new PythonDevice(python, live)
  const registered = await device.next('registered')
  const target = String(registered.registrationId)
  await device.next('subscribed')

  await t.test('gets messages to itself, to its topic and to its application', async (t) => {
    const direct = await live.send('device', target, 'direct')
    const event = await device.next('notification')
    t.match(event, { id: direct, title: 'direct', data: { n: 1 }, possibleDuplicate: false })
    await live.send('topic', 'news', 'to the topic')
    t.match(await device.next('notification'), {
      title: 'to the topic',
      group: { kind: 'topic', project: PUBLISHER_PROJECT },
    })
    await live.send('application', live.application, 'to all')
    t.match(await device.next('notification'), { title: 'to all', group: { kind: 'application' } })
    t.equal(await device.stop(), 0)
  })

  const missed = await live.send('device', target, 'missed')
  await live.send('topic', 'news', 'missed of the topic')
  const again = new PythonDevice(python, live)

  await t.test('gets the messages that it missed when it starts again', async (t) => {
    const received = [await again.next('notification'), await again.next('notification')]
    t.same(received.map(({ title }) => title).sort(), ['missed', 'missed of the topic'])
    await again.next('ready')
    t.equal(received.find(({ id }) => id === missed)?.possibleDuplicate, false)
  })

  await t.test('gets the messages of both example publishers over NATS; an invalid one is a dead letter', async (t) => {
    const { url, user, password } = live.nats.settingsAs('publisher')
    const message = (title: string) => JSON.stringify({ type: 'device', target, ttl: '1h', notification: { title } })
    const access = [
      '--server',
      new URL(url).host,
      '--user',
      user,
      '--password',
      password,
      '--project',
      PUBLISHER_PROJECT,
    ]
    const inPython = (body: string) =>
      run(python, [join(folder, 'examples/publish.py'), ...access, '--message-id', 'push-1', body], {})
    const inTypeScript = (body: string) =>
      run(process.execPath, [resolve('dist/docs/examples/publish.js'), PUBLISHER_PROJECT, body], {
        NATS_URL: url,
        NATS_USER: user,
        NATS_PASSWORD: password,
      })
    t.match(JSON.parse(await inPython(message('from Python'))), { stream: 'INGRESS' })
    t.match(await again.next('notification'), { title: 'from Python' })
    t.match(JSON.parse(await inPython(message('from Python'))), { duplicate: true }, 'the same id is stored once')
    t.match(JSON.parse(await inTypeScript(message('from TypeScript'))), { stream: 'INGRESS', duplicate: false })
    t.match(await again.next('notification'), { title: 'from TypeScript' })

    const dead = live.nats.brokerAs('unrestricted')
    const letter = new Promise<string | undefined>((found) => {
      dead.then(({ bus }) => bus.subscribe('push.dead.*', ({ headers }) => found(headers?.code)))
    })
    // An answer on the same connection shows that the server has the subscription.
    await (await dead).log(DEAD_LETTERS_STREAM).state()
    t.match(
      JSON.parse(await inTypeScript('{"type": "device"}')),
      { stream: 'INGRESS' },
      'an invalid message is stored first',
    )
    t.equal(await letter, 'invalid_request')
  })
  t.equal(await again.stop(), 0)
})

/** Resolves with the standard output of a program. Rejects if it does not end with code 0. */
async function run(program: string, args: string[], more: Record<string, string>): Promise<string> {
  const child = spawn(program, args, { env: { ...environment, ...more }, stdio: ['ignore', 'pipe', 'pipe'] })
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk) => {
    out += chunk
  })
  child.stderr.on('data', (chunk) => {
    err += chunk
  })
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`${program} ended with ${code}: ${err}${out}`)
  return out
}
