import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { type DeviceCommandOptions, runDevice } from '../../src/cli/device.js'
import { notify } from './scripted-server.js'
import { server } from './support.js'

/** Collects the lines that the command prints; `until` waits for a line with a given text. */
class Terminal {
  readonly lines: string[] = []
  private waiting: { text: string; resolve: (line: string) => void }[] = []

  readonly write = (line: string): void => {
    this.lines.push(line)
    for (const w of this.waiting) if (line.includes(w.text)) w.resolve(line)
  }

  until(text: string): Promise<string> {
    const line = this.lines.find((l) => l.includes(text))
    if (line !== undefined) return Promise.resolve(line)
    return new Promise((resolve) => this.waiting.push({ text, resolve }))
  }
}

/** A scripted transport, a core that enrols every device, and the options with which `borealis device` uses them. */
async function setUp(t: Test) {
  const transport = await server(t)
  const core = createServer((_request, response) => {
    response.writeHead(201).end(JSON.stringify({ deviceId: 'dev_1', token: 'jwt', transportUrl: transport.url }))
  }).listen(0, '127.0.0.1')
  await once(core, 'listening')
  t.teardown(() => {
    core.closeAllConnections()
    core.close()
  })
  const options: DeviceCommandOptions = {
    application: ['app_a'],
    topic: ['news'],
    state: join(t.testdir(), 'folder', 'state'),
    enrolUrl: `http://127.0.0.1:${(core.address() as AddressInfo).port}`,
    enrolmentKey: 'key',
    name: 'lamp',
  }
  return { transport, options, stop: new AbortController(), terminal: new Terminal() }
}

t.test('the command enrols, registers, subscribes, prints a push, and sends BYE at its end', async (t) => {
  const { transport, options, stop, terminal } = await setUp(t)
  const running = runDevice(options, stop.signal, terminal.write)
  const peer = await transport.welcomed()
  t.match(await terminal.until('connected'), /connected as dev_1 \(connection 1\)/)
  const { request } = await peer.next('REGISTER')
  peer.send({ type: 'REGISTERED', request, registration: 1, registrationId: 'rid', subscriptions: 2, project: 'p' })
  t.equal(await terminal.until('registered'), 'registered app_a: rid')
  const subscribe = await peer.next('SUBSCRIBE')
  peer.send({ type: 'DONE', request: subscribe.request, subscriptions: 3 })
  await terminal.until('subscribed to news')
  peer.send(notify(7n, { title: 'Hello\u001b[2J', data: new Uint8Array([0x81, 0xa1, 0x61, 0xc4, 1, 9]) }))
  t.equal(await terminal.until('>>'), '>> Hello [2J', 'control characters of a push are not printed')
  t.match(await terminal.until('7 for'), '7 for app_a')
  t.ok(terminal.lines.includes('   {"a":"CQ=="}'))
  stop.abort()
  await peer.next('BYE')
  await running
  t.match(await readFile(options.state, 'utf8'), '"dev_1"')
})

t.test('--json prints one object a line, and a second start uses the identity in the state file', async (t) => {
  const { transport, options, stop, terminal } = await setUp(t)
  const first = runDevice({ ...options, json: true }, stop.signal, terminal.write)
  await transport.welcomed()
  await terminal.until('ready')
  stop.abort()
  await first
  const { enrolUrl, enrolmentKey, ...known } = options
  const again = new AbortController()
  const second = runDevice({ ...known, json: true }, again.signal, terminal.write)
  const peer = await transport.welcomed()
  const { request } = await peer.next('REGISTER')
  peer.send({ type: 'REGISTERED', request, registration: 1, registrationId: 'rid', subscriptions: 2, project: 'p' })
  peer.send(notify(8n))
  const line: unknown = JSON.parse(await terminal.until('notification'))
  t.match(line, { event: 'notification', id: '8', title: 'title', application: 'app_a', possibleDuplicate: false })
  again.abort()
  await second
  for (const l of terminal.lines) t.ok(JSON.parse(l).event, l)
})

t.test('a revoked device ends the command with an error that names the next step', async (t) => {
  const { transport, options, stop, terminal } = await setUp(t)
  const running = runDevice(options, stop.signal, terminal.write)
  const refused = t.rejects(running, { message: /revoked.*Next:/ })
  const peer = await transport.connection()
  await peer.next('HELLO')
  peer.close('revoked')
  await refused
})

t.test('a new state file without enrolment options is refused with the names of the options', async (t) => {
  const { options, stop, terminal } = await setUp(t)
  const { enrolUrl, enrolmentKey, ...unenrolled } = options
  await t.rejects(runDevice(unenrolled, stop.signal, terminal.write), { message: /--enrol-url and --enrolment-key/ })
})

t.test('a --url that is no WebSocket URL is refused with the expected form', async (t) => {
  const { options, stop, terminal } = await setUp(t)
  await t.rejects(runDevice({ ...options, url: 'http://x' }, stop.signal, terminal.write), { message: /ws:\/\// })
})

t.test('a corrupt state file is kept aside, and the error names the next step', async (t) => {
  const { options, stop, terminal } = await setUp(t)
  await mkdir(dirname(options.state), { recursive: true })
  await writeFile(options.state, 'junk\n')
  await t.rejects(runDevice(options, stop.signal, terminal.write), { message: /kept aside.*Next:/ })
})
