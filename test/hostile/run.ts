/**
 * A hostile run: attacks the decoder, then a Borealis that it starts, while well-behaved devices get pushes. At the end
 * no process may have ended, no push may be lost or misdirected, and memory may not have grown.
 */
import { deviceOf } from '../../bench/generator/identity.js'
import { accessToken, createTenant, deviceToken, registerDevices } from '../../bench/system/fleet.js'
import { LocalSystem } from '../../bench/system/local-system.js'
import { Close } from '../../protocol/close-codes.js'
import type { Knowledge } from './bytes.js'
import type { PlanWorld } from './call.js'
import { streamOf, weighted } from './chance.js'
import { attackDecoder } from './decoder.js'
import { Forger } from './forgeries.js'
import { HonestDevice } from './honest.js'
import { gatewayShots } from './http.js'
import { Ledger } from './ledger.js'
import { plans } from './plans.js'
import { Pushes } from './pushes.js'
import { SlowConnections } from './slow.js'
import { Suspects } from './suspects.js'
import { type MemoryVerdict, Watch } from './watch.js'

export interface HostileOptions {
  frames: number
  seed: number
  /** An empty folder for the data of the system. */
  folder: string
  /** The run continues until so many pushes are accepted, for at most two minutes. Default 0. */
  pushesMin?: number
  /** The number of connections of each slow kind, which take up to 12 s to end. Default 4. */
  slowOfEach?: number
  onProgress?(text: string): void
  /** Receives the errors that the parts log, and their crashes. */
  onNotice?(text: string): void
}

export interface HostileResult {
  frames: number
  connections: number
  closes: Record<string, number>
  exits: number
  wrongDevice: number
  lost: number
  rssBytes: MemoryVerdict['rssBytes']
  framesPerSecond: number
  ok: boolean
  seed: number
  /** The share of `frames` that went to the decoder alone, and the share that went to the worker. */
  decoderFrames: number
  liveFrames: number
  decoderFramesPerSecond: number
  liveFramesPerSecond: number
  /** Number of accepted pushes, to well-behaved and to hostile devices. */
  pushes: number
  pushesRefused: number
  /** Number of HTTP answers by status, except for upgrades; 0 counts connections that were cut without an answer. */
  httpAnswers: Record<string, number>
  /** Number of connections that the attacker ended itself. */
  left: number
  rssByPart: MemoryVerdict['byPart']
  isMemoryFlat: boolean
  errorsLogged: number
  surprises: number
  firstSurprises: string[]
  seconds: number
}

const DECODER_SHARE = 0.5
const AT_ONCE = 48
const ADDRESSES = 24
const HONEST = 10
/** So many of the well-behaved devices connect and disconnect all the time. */
const INTERMITTENT = 3
const INTERMITTENT_MS = 700
const SUSPECTS = 64
const SUSPECTS_PUSHED = 4
const PROGRESS_MS = 1_000
/** The longest wait for `pushesMin`. */
const PUSHES_MS_MAX = 120_000
/** The number of the random stream of slow connections; plans have numbers from 0. */
const STREAM_SLOW = -2

export async function runHostile(options: HostileOptions): Promise<HostileResult> {
  const {
    frames,
    seed,
    folder,
    pushesMin = 0,
    slowOfEach = 4,
    onProgress = () => undefined,
    onNotice = () => undefined,
  } = options
  const startedMs = performance.now()
  const ledger = new Ledger()
  const decoderFrames = Math.floor(frames * DECODER_SHARE)
  const decoderFramesPerSecond = await attackDecoder({
    ...{ frames: decoderFrames, seed, ledger },
    onProgress: (done) => onProgress(`decoder: ${done} of ${decoderFrames}`),
  })
  let errorsLogged = 0
  const system = await LocalSystem.start({
    folder,
    settings: { transport: { workers: 1, drainMs: 1, drainJitterMs: 0, drainGraceMs: 0 } },
    onLine: (part, line) => {
      if (!/"level":"(error|fatal)"/.test(line)) return
      errorsLogged++
      onNotice(`${part}: ${line}`)
    },
    onNotice,
  })
  try {
    const live = await attackLive(
      system,
      { seed, slowOfEach, pushesMin, frames: frames - decoderFrames, onProgress },
      ledger,
    )
    const { watch, pushes, lost, seconds: liveSeconds, liveFrames } = live
    const exits = watch.exits
    const { rssBytes, byPart, isFlat } = watch.memory()
    const isClean = ledger.surprises === 0 && errorsLogged === 0 && ledger.wrongDevice === 0
    const counted = (counts: ReadonlyMap<number, number>) => Object.fromEntries([...counts].sort(([a], [b]) => a - b))
    const total = decoderFrames + liveFrames
    const seconds = (performance.now() - startedMs) / 1000
    return {
      ...{ frames: total, connections: ledger.connections, closes: counted(ledger.closes), exits },
      ...{ wrongDevice: ledger.wrongDevice, lost, rssBytes, framesPerSecond: Math.round(total / seconds) },
      ok: isClean && exits === 0 && lost === 0 && isFlat && !ledger.closes.has(Close.internal.code),
      ...{ seed, decoderFrames, liveFrames, decoderFramesPerSecond: Math.round(decoderFramesPerSecond) },
      liveFramesPerSecond: Math.round(liveFrames / liveSeconds),
      ...{ pushes: pushes.accepted, pushesRefused: pushes.refused, httpAnswers: counted(ledger.statuses) },
      ...{ left: ledger.left, rssByPart: byPart, isMemoryFlat: isFlat, errorsLogged },
      ...{ surprises: ledger.surprises, firstSurprises: ledger.firstSurprises, seconds: Math.round(seconds) },
    }
  } finally {
    await system.stop()
  }
}

interface LiveResult {
  watch: Watch
  pushes: Pushes
  lost: number
  seconds: number
  liveFrames: number
}

async function attackLive(
  system: LocalSystem,
  { frames, seed, slowOfEach, pushesMin, onProgress }: Required<Omit<HostileOptions, 'folder' | 'onNotice'>>,
  ledger: Ledger,
): Promise<LiveResult> {
  const broker = await system.brokerAs('core', 'hostile')
  const fleet = await createTenant(broker)
  await registerDevices(broker, fleet, { count: HONEST + SUSPECTS })
  const foreign = await createTenant(broker)
  const token = await accessToken(system, broker, fleet)
  const { host, port } = system.deviceTarget
  const target = { host, port }
  const gateway = { host: system.config.http.host, port: system.config.http.port }
  const known: bigint[] = []
  const honest = Array.from(
    { length: HONEST },
    (_, i) =>
      new HonestDevice({
        target,
        device: deviceOf(fleet.run, i),
        token: deviceToken(system, fleet.run, i),
        ledger,
        known,
      }),
  )
  const knowledge: Knowledge = { foreignIds: known, applications: [fleet.application, foreign.application] }
  const world: PlanWorld = {
    ...{ ledger, knowledge, gateway, devicePort: target },
    gatewayShot: gatewayShots(`Bearer ${token}`, fleet.project),
    forger: new Forger({
      keyring: system.keyring,
      issuer: system.config.auth.issuer,
      victims: honest.map(({ device }) => device),
    }),
    suspects: suspectsOf(system, fleet.run),
  }
  await Promise.all(honest.map((device) => device.connect()))
  const hostile = { first: HONEST, count: SUSPECTS_PUSHED, deviceAt: (index: number) => deviceOf(fleet.run, index) }
  const pushes = new Pushes({ ...{ system, fleet, token, ledger, honest, hostile } })
  pushes.start()
  const intermittent = new IntermittentDevices(honest.slice(-INTERMITTENT), ledger)
  const slow = new SlowConnections({ target, gateway, ledger, random: streamOf(seed, STREAM_SLOW), count: slowOfEach })
  const watch = new Watch(system)
  const startedMs = performance.now()
  const progress = setInterval(() => {
    onProgress(
      `live: ${ledger.frames} of ${frames} frames, ${ledger.connections} connections, ${ledger.surprises} surprises`,
    )
  }, PROGRESS_MS)
  try {
    const arePushesDue = () => pushes.accepted < pushesMin && performance.now() - startedMs < PUSHES_MS_MAX
    const isEnough = () => ledger.frames >= frames && !arePushesDue()
    await Promise.all(Array.from({ length: AT_ONCE }, (_, lane) => attack(lane, isEnough, seed, world)))
    const liveFrames = ledger.frames
    const seconds = (performance.now() - startedMs) / 1000
    await slow.settle()
    await intermittent.stop()
    const lost = await pushes.settle()
    watch.stop()
    await Promise.all(honest.map((device) => device.disconnect()))
    return { watch, pushes, lost, seconds, liveFrames }
  } finally {
    clearInterval(progress)
    pushes.stop()
    slow.stop()
    watch.stop()
    await intermittent.stop()
  }
}

/** Runs one plan after the other, until all lanes together have sent enough. */
async function attack(lane: number, isEnough: () => boolean, seed: number, world: PlanWorld): Promise<void> {
  for (let number = lane; !isEnough(); number += AT_ONCE) {
    const random = streamOf(seed, number)
    const { name, plan } = weighted(random, plans)
    const address = `127.0.0.${2 + (number % ADDRESSES)}`
    await plan({ ...world, random, name: `${name} ${number}`, address })
  }
}

function suspectsOf(system: LocalSystem, run: string): Suspects {
  const indexOf = new Map(Array.from({ length: SUSPECTS }, (_, i) => [deviceOf(run, HONEST + i), HONEST + i]))
  let nextIndex = HONEST + SUSPECTS
  return new Suspects({
    devices: [...indexOf.keys()],
    tokenOf: (device) => deviceToken(system, run, indexOf.get(device) ?? nextIndex - 1),
    newDevice: () => deviceOf(run, nextIndex++),
  })
}

/** Well-behaved devices that connect and disconnect. Pushes that are queued meanwhile must arrive at the next connect. */
class IntermittentDevices {
  private isOver = false
  private readonly done: Promise<unknown>

  constructor(devices: readonly HonestDevice[], ledger: Ledger) {
    this.done = Promise.all(devices.map((device) => this.run(device))).catch((error: Error) => {
      ledger.surprise('intermittent devices', error.message)
    })
  }

  /** Resolves when all devices are connected. */
  async stop(): Promise<void> {
    this.isOver = true
    await this.done
  }

  private async run(device: HonestDevice): Promise<void> {
    const pause = () => new Promise((resolve) => setTimeout(resolve, INTERMITTENT_MS))
    while (!this.isOver) {
      await pause()
      await device.disconnect()
      await pause()
      await device.connect()
    }
  }
}
