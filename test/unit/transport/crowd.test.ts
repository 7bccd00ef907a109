/** Many devices connect at once: the admission queue, the measured throughput of a worker, and both with real backoff. */
import t from 'tap'
import { Backoff } from '../../../src/device/connection/backoff.js'
import { deviceSettings } from '../../../src/device/settings.js'
import { Admission } from '../../../src/transport/admission/admission.js'
import { AdmissionQueue } from '../../../src/transport/admission/admission-queue.js'
import { Greeting, Greetings } from '../../../src/transport/admission/greeting.js'
import { Throughput } from '../../../src/transport/admission/throughput.js'
import type { Socket } from '../../../src/transport/socket/socket.js'
import { seeded } from '../../sim/random.js'

t.test('refused devices return spread over time, half as many again each second as the worker serves', async (t) => {
  const admissionQueue = new AdmissionQueue()
  const seconds = Array.from({ length: 1_500 }, () => admissionQueue.add(0, 100))
  t.equal(seconds[0], 1, 'the first device returns after a second, not at once')
  t.equal(seconds.at(-1), 9)
  t.equal(seconds.filter((second) => second === 5).length, 150, 'for 100 served, because some devices do not return')
})

t.test('the admission queue is empty when the last device was due', async (t) => {
  const admissionQueue = new AdmissionQueue()
  for (let i = 0; i < 1_500; i++) admissionQueue.add(0, 100)
  t.equal(admissionQueue.add(9_000, 100), 1)
  t.equal(admissionQueue.add(9_000, 1_000_000), 1)
})

t.test(
  'the wait of a refused device is five minutes at most, also when more devices come than return in that time',
  async (t) => {
    const admissionQueue = new AdmissionQueue()
    const seconds = Array.from({ length: 10_000 }, () => admissionQueue.add(0, 10))
    t.equal(Math.max(...seconds), 300)
    t.equal(seconds.filter((second) => second === 299).length, 30, 'twice the 15 of each second')
  },
)

t.test('handshakes that come one by one leave the estimated throughput unchanged', async (t) => {
  const throughput = new Throughput(1_000)
  for (let i = 0; i < 1_000; i++) throughput.finish(throughput.begin(i * 1_000), i * 1_000 + 100)
  t.equal(throughput.perSecond, 1_000)
})

t.test('handshakes that come in bursts set the throughput, and not the throughput without a crowd', async (t) => {
  const throughput = new Throughput(1_000)
  for (let burst = 0; burst < 20; burst++) {
    const startMs = 2_000_000 + burst * 10_000
    const handshakes = Array.from({ length: 50 }, () => throughput.begin(startMs))
    for (const [i, handshake] of handshakes.entries()) throughput.finish(handshake, startMs + 2 * (i + 1))
  }
  t.ok(Math.abs(throughput.perSecond - 500) < 10, `${throughput.perSecond} a second`)
  t.equal(throughput.uncrowdedPerSecond, 1_000)
})

t.test('connections that stay silent for two seconds do not count as expected handshakes', async (t) => {
  const greetings = new Greetings()
  const opened = (tick: number) => new Greeting({} as Socket, tick, 0)
  const silent = [opened(1), opened(1)] as const
  for (const greeting of [...silent, opened(2)]) greetings.add(greeting)
  greetings.tick(2)
  t.equal(greetings.expected, 3)
  greetings.tick(3)
  t.equal(greetings.expected, 1)
  t.ok(greetings.remove(silent[0]))
  t.notOk(greetings.remove(silent[0]))
  t.equal(greetings.expected, 1)
  t.equal(greetings.all().length, 2)
})

/** A worker that finishes `perSecond` handshakes a second, one after the other. */
class SimulatedWorker {
  private readonly throughput: Throughput
  private readonly admission: Admission
  private busyUntilMs = 0
  handshaking = 0
  refused = 0

  constructor(
    private readonly perSecond: number,
    guess: number,
    lagMs: () => number = () => 0,
    connectionsMax = 1e9,
  ) {
    this.throughput = new Throughput(guess)
    const limits = { connectionsMax, connectionsPerAddressMax: 1e9, handshakesPerSecondMax: 1e9 }
    this.admission = new Admission(
      { ...limits, handshakesInFlightMax: 2_000, loopLagMsMax: 500 },
      { lagMs, greeting: () => 0, handshaking: () => this.handshaking },
      this.throughput,
    )
  }

  /** Admits a device and calls `done` with the end of its handshake, or returns Retry-After in seconds. */
  connect(nowMs: number, done: (atMs: number, run: () => void) => void): number | null {
    const refusal = this.admission.admit('', { ms: nowMs, tick: Math.floor(nowMs / 1_000) })
    if (refusal) {
      this.refused++
      return refusal.retryAfterSeconds
    }
    this.handshaking++
    this.admission.opened('')
    const handshake = this.throughput.begin(nowMs)
    this.busyUntilMs = Math.max(this.busyUntilMs, nowMs) + 1_000 / this.perSecond
    const endMs = this.busyUntilMs
    done(endMs, () => {
      this.handshaking--
      this.throughput.finish(handshake, endMs)
    })
    return null
  }

  lose(connections: number): void {
    for (let n = 0; n < connections; n++) this.admission.closed('')
  }
}

/** The result of a crowd. */
interface Crowd {
  connected: number
  to99Ms: number
  /** The mean number of refusals of a device. */
  refused: number
  /** The number of refusals in each second. */
  refusedIn: number[]
}

/**
 * All devices connect within a second, as after a crash, and come back until all are connected or `msMax` has passed. Each
 * worker loses `leavingPerSecond` connections after `leavingAtMs`; those devices do not come back.
 */
function reconnectCrowd(
  devices: number,
  workers: readonly SimulatedWorker[],
  seed: number,
  { msMax = 3_600_000, leavingAtMs = Number.POSITIVE_INFINITY, leavingPerSecond = 0 } = {},
): Crowd {
  const random = seeded(seed)
  const settings = deviceSettings()
  const events = new Map<number, (() => void)[]>()
  const at = (ms: number, run: () => void) => {
    const slot = Math.ceil(ms)
    const others = events.get(slot)
    if (others) others.push(run)
    else events.set(slot, [run])
  }
  let [nowMs, connected, to99Ms] = [0, 0, 0]
  const refusedIn: number[] = []
  const onConnected = () => {
    connected++
    if (connected >= 0.99 * devices && to99Ms === 0) to99Ms = nowMs
  }
  for (let i = 0; i < devices; i++) {
    const backoff = new Backoff(settings, random)
    const attempt = () => {
      const worker = workers[Math.floor(random() * workers.length)] as SimulatedWorker
      const seconds = worker.connect(nowMs, (ms, run) =>
        at(ms, () => {
          run()
          onConnected()
        }),
      )
      if (seconds === null) return
      const second = Math.floor(nowMs / 1_000)
      refusedIn[second] = (refusedIn[second] ?? 0) + 1
      backoff.retryAfter(nowMs, seconds * 1_000)
      at(backoff.next(nowMs), attempt)
    }
    at(backoff.next(0), attempt)
  }
  for (; connected < devices && nowMs < msMax; nowMs++) {
    for (const run of events.get(nowMs) ?? []) run()
    events.delete(nowMs)
    if (nowMs >= leavingAtMs && nowMs % 1_000 === 0) for (const worker of workers) worker.lose(leavingPerSecond)
  }
  const refused = workers.reduce((sum, worker) => sum + worker.refused, 0) / devices
  return { connected, to99Ms, refused, refusedIn: Array.from(refusedIn, (count) => count ?? 0) }
}

for (const { devices, workers, perSecond, guess, title } of [
  { devices: 20_000, workers: 4, perSecond: 500, guess: 500, title: '4 workers as fast as their first guess' },
  { devices: 20_000, workers: 4, perSecond: 1_500, guess: 500, title: '4 workers faster than their first guess' },
  { devices: 20_000, workers: 4, perSecond: 150, guess: 500, title: '4 workers much slower than their first guess' },
  { devices: 40_000, workers: 65, perSecond: 31, guess: 31, title: '65 workers' },
]) {
  t.test(`${title} admit ${devices} devices in at most 1.5 times the shortest time and 5 s`, async (t) => {
    const simulated = Array.from({ length: workers }, () => new SimulatedWorker(perSecond, guess))
    const { connected, to99Ms, refused } = reconnectCrowd(devices, simulated, 7)
    t.equal(connected, devices)
    const shortestMs = (1_000 * devices) / (workers * perSecond)
    t.ok(to99Ms < 1.5 * shortestMs + 5_000, `${to99Ms} ms; the shortest possible time is ${shortestMs} ms`)
    t.ok(refused < 6, `${refused} refusals for each device`)
  })
}

t.test('100,000 devices too many are refused at a bounded rate, and connect as others leave', async (t) => {
  const [guess, roomFor] = [250, 5_000]
  const workers = Array.from({ length: 4 }, () => new SimulatedWorker(guess, guess, () => 0, roomFor))
  const leavingAtMs = 900_000
  const crowd = reconnectCrowd(120_000, workers, 7, { msMax: 1_200_000, leavingAtMs, leavingPerSecond: 20 })
  // All devices come within the first second, before a refusal can spread them: it does not count.
  const [filling, full] = [crowd.refusedIn.slice(2, 60), crowd.refusedIn.slice(60, leavingAtMs / 1_000)]
  // Each second, a worker lets as many devices return as it guesses to serve, and a quarter of them when it is full;
  // half as many again, because some do not return.
  const [whileFilling, whenFull] = [1.5 * 4 * guess * 1.25, (1.5 * 4 * guess) / 4]
  t.ok(Math.max(...filling) < 1.1 * whileFilling, `${Math.max(...filling)} refusals in a second while they fill`)
  t.ok(Math.max(...full) < 1.5 * whenFull, `${Math.max(...full)} refusals in a second when they are full`)
  const left = 4 * 20 * 300
  t.ok(crowd.connected > 20_000 + 0.9 * left, `${crowd.connected} connected after ${left} have left`)
})

for (const { workers, perSecond, guess } of [
  { workers: 4, perSecond: 40, guess: 250 },
  { workers: 62, perSecond: 8, guess: 32 },
]) {
  t.test(
    `${workers} workers that serve ${perSecond} a second and guess ${guess} refuse a device fewer than four times`,
    async (t) => {
      const simulated = Array.from({ length: workers }, () => new SimulatedWorker(perSecond, guess))
      const devices = workers * perSecond * 240
      const { connected, to99Ms, refused } = reconnectCrowd(devices, simulated, 7)
      t.equal(connected, devices)
      const shortestMs = (1_000 * devices) / (workers * perSecond)
      t.ok(to99Ms < 1.5 * shortestMs + 5_000, `${to99Ms} ms; the shortest possible time is ${shortestMs} ms`)
      t.ok(refused < 4, `${refused} refusals for each device`)
    },
  )
}
