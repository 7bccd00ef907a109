/** Starts mosquitto with a WebSocket listener for devices and a TCP listener for the publisher. */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { endWithParent } from '../../src/nats/server/end-with-parent.js'
import { type Bench, BenchError } from '../scenario.js'
import { freePort } from '../system/ports.js'
import { endProcess, untilLine } from './plain-nats.js'

export interface Mosquitto {
  pid: number
  webSocketPort: number
  tcpPort: number
  version: string
}

export async function startMosquitto(bench: Bench): Promise<Mosquitto> {
  const program = ensureMosquitto(bench)
  const webSocketPort = await freePort()
  const tcpPort = await freePort()
  const file = join(bench.folder, 'mosquitto.conf')
  const config = [
    `listener ${webSocketPort} 127.0.0.1`,
    'protocol websockets',
    `listener ${tcpPort} 127.0.0.1`,
    'protocol mqtt',
    // The comparison is about the broker, not about checking credentials.
    'allow_anonymous true',
    'persistence false',
    'set_tcp_nodelay true',
    'max_queued_messages 100000',
    'max_inflight_messages 64',
    'log_dest stderr',
    'log_type error',
    'log_type information',
    ...(userInfo().uid === 0 ? ['user root'] : []),
  ]
  await writeFile(file, `${config.join('\n')}\n`)
  const child = spawn(program, ['-c', file], { stdio: ['ignore', 'ignore', 'pipe'], detached: true })
  endWithParent(child)
  bench.defer(() => endProcess(child))
  await untilLine(child, 'mosquitto', (line) => /mosquitto version .* running/.test(line))
  return { pid: child.pid ?? 0, webSocketPort, tcpPort, version: versionOf(program) }
}

const PLACES = ['/usr/sbin/mosquitto', '/usr/local/sbin/mosquitto', '/opt/homebrew/sbin/mosquitto']

/** Finds mosquitto, or installs Debian's package. Throws BenchError with a remedy. */
function ensureMosquitto(bench: Bench): string {
  const find = () => [process.env.MOSQUITTO_BIN ?? '', ...PLACES].find((path) => path !== '' && existsSync(path))
  const present = find()
  if (present) return present
  bench.progress.say('installing mosquitto (apt-get)')
  // Debian starts a broker of its own on port 1883. It does not matter here, because bench uses other ports.
  const install = spawnSync('apt-get', ['install', '-y', '--no-install-recommends', 'mosquitto'], {
    encoding: 'utf8',
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  })
  const installed = find()
  if (installed) return installed
  const why = install.error?.message ?? install.stderr.trim().split('\n').at(-1) ?? ''
  throw new BenchError(
    `mosquitto is needed for this comparison and could not be installed (${why}). ` +
      'Install it (Debian: apt-get install mosquitto), or set MOSQUITTO_BIN to its path.',
  )
}

function versionOf(program: string): string {
  const { stdout } = spawnSync(program, ['-h'], { encoding: 'utf8' })
  return /mosquitto version (\S+)/.exec(stdout)?.[1] ?? 'unknown'
}
