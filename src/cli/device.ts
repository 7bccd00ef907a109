/** `borealis device`: a device on a terminal. It enrols once, registers its applications and shows each push. */
import { hostname } from 'node:os'
import { Command, Option } from 'commander'
import { type BorealisClient, DeviceError, openClient, type Registration } from '../device/index.js'
import { CommandError } from './context.js'
import { jsonLines, type Printer, textLines } from './device-output.js'

export interface DeviceCommandOptions {
  application: string[]
  topic: string[]
  state: string
  url?: string
  enrolUrl?: string
  enrolmentKey?: string
  name: string
  userToken?: string
  json?: boolean
}

const STATE_FILE = '.borealis/device.state'

/** Exit code 0: ended by Ctrl-C. 1: the device was refused or its state file cannot be used; the message gives the cure. */
export function deviceCommand(): Command {
  return new Command('device')
    .description('run a device: register applications and show their pushes until Ctrl-C')
    .requiredOption('--application <id>', 'application to register; may be given several times', collect)
    .option('--topic <name>', 'topic to subscribe to, for each application; may be given several times', collect, [])
    .option('--state <file>', 'file for the identity, connection number and seen messages of the device', STATE_FILE)
    .addOption(new Option('--enrol-url <url>', 'URL of the core, for the first enrolment').env('BOREALIS_ENROL_URL'))
    .addOption(new Option('--enrolment-key <key>', 'enrolment key of the fleet').env('BOREALIS_ENROLMENT_KEY'))
    .option('--url <url>', 'URL of the transport (ws:// or wss://); by default, the one from the enrolment')
    .option('--name <name>', 'name of the device at enrolment', hostname())
    .option('--user-token <jwt>', 'token that names the user of this device, signed by the project')
    .option('--json', 'print one JSON object per line')
    .action(async (options: DeviceCommandOptions) => {
      const stop = new AbortController()
      const interrupt = () => stop.abort()
      process.once('SIGINT', interrupt).once('SIGTERM', interrupt)
      try {
        await runDevice(options, stop.signal, (line) => process.stdout.write(`${line}\n`))
      } finally {
        process.off('SIGINT', interrupt).off('SIGTERM', interrupt)
      }
    })
}

/** Runs until `stop` is aborted. Rejects with CommandError if the device is refused for good. */
export async function runDevice(
  options: DeviceCommandOptions,
  stop: AbortSignal,
  write: (line: string) => void,
): Promise<void> {
  const print = options.json ? jsonLines(write) : textLines(write)
  const client = await open(options)
  let fatal: DeviceError | null = null
  const ended = new Promise<void>((resolve) => {
    stop.addEventListener('abort', () => resolve(), { once: true })
    if (stop.aborted) resolve()
    client.on('error', (error) => {
      if (error.fatal) fatal = error
      else print.problem(error)
    })
    client.on('closed', (closed) => {
      print.closed(closed)
      if (closed.reconnectInMs === null) resolve()
    })
  })
  client.on('ready', (ready) => print.ready(client.deviceId ?? '', ready))
  client.on('notification', (notification) => print.notification(notification))
  client.on('expired', (notification) => print.expired(notification))
  client.on('gap', (gap) => print.gap(gap))
  const registering = registerAll(client, options, print)
  client.connect()
  await ended
  await client.close()
  await registering
  if (fatal) throw explained(fatal)
}

async function open(options: DeviceCommandOptions): Promise<BorealisClient> {
  const { enrolUrl, enrolmentKey, name, url, state } = options
  try {
    return await openClient({
      state,
      random: Math.random,
      client: { name: 'borealis device' },
      ...(url === undefined ? {} : { url: checkedUrl(url) }),
      ...(enrolUrl && enrolmentKey ? { enrol: { url: enrolUrl, enrolmentKey, name } } : {}),
    })
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error
    if (error.code !== 'not_enrolled') throw explained(error)
    throw new CommandError(`${error.message}: give --enrol-url and --enrolment-key`, 1, { cause: error })
  }
}

/** If one application is refused, reports it and goes on with the others. */
async function registerAll(client: BorealisClient, options: DeviceCommandOptions, print: Printer): Promise<void> {
  const { userToken } = options
  await Promise.all(
    options.application.map(async (application) => {
      try {
        const registration = await client.register(application, userToken ? { userToken } : {})
        print.registered(registration)
        await Promise.all(options.topic.map((topic) => subscribe(client, topic, registration, print)))
      } catch (error) {
        if (!(error instanceof DeviceError)) throw error
        if (error.code !== 'stopped') print.problem(error)
      }
    }),
  )
}

async function subscribe(client: BorealisClient, topic: string, to: Registration, print: Printer): Promise<void> {
  await client.subscribe(topic, { application: to.application, user: to.user })
  print.subscribed(topic, to)
}

function checkedUrl(url: string): string {
  if (URL.canParse(url) && /^wss?:$/.test(new URL(url).protocol)) return url
  throw new CommandError(`--url ${url}: the address of a transport begins with ws:// or wss://`, 2)
}

function explained(error: DeviceError): CommandError {
  return new CommandError(`${error.message} (${error.code}). Next: ${error.next}`, 1, { cause: error })
}

function collect(value: string, before: string[] = []): string[] {
  return [...before, value]
}
