/** A crowd at the door: the admissionQueue, what a worker can finish, and both together with devices that come back as they do. */
import t from 'tap'
import { Backoff } from '../../../src/device/connection/backoff.js'
import { deviceSettings } from '../../../src/device/settings.js'
import { Admission } from '../../../src/transport/admission/admission.js'
import { AdmissionQueue } from '../../../src/transport/admission/admission-queue.js'
import { Greeting, Greetings } from '../../../src/transport/admission/greeting.js'
import { Throughput } from '../../../src/transport/admission/throughput.js'
import type { Socket } from '../../../src/transport/socket/socket.js'
import { seeded } from '../../sim/random.js'

t.test('the admissionQueue: everybody has a place, so many a second; it grows shorter with time', async (t) => {
  const admissionQueue = new AdmissionQueue()
  const places = Array.from({ length: 1_500 }, () => admissionQueue.add(0, 100))
  t.equal(places[0], 1, 'never at once')
  t.equal(places.at(-1), 9)
  t.equal(places.filter((place) => place === 5).length, 150, 'half as many again as can be served: some do not come')
  t.equal(admissionQueue.add(9_000, 100), 1, 'the others have come by then')
  t.equal(admissionQueue.add(9_000, 1_000_000), 1)
})

t.test('the admissionQueue: never longer than five minutes', async (t) => {
  const admissionQueue = new AdmissionQueue()
  const places = Array.from({ length: 10_000 }, () => admissionQueue.add(0, 10))
  t.equal(Math.max(...places), 300)
  t.equal(places.filter((place) => place === 299).length, 30, 'it began anew at its front')
})

t.test('what a worker can finish is measured in bursts, and not by who is alone', async (t) => {
  const throughput = new Throughput(1_000)
  for (let i = 0; i < 1_000; i++) throughput.finish(throughput.begin(i * 1_000), i * 1_000 + 100)
  t.equal(throughput.perSecond, 1_000, 'ten a second were asked for: that says nothing')
  // Bursts of 50 that take a tenth of a second each, and long pauses.
  for (let burst = 0; burst < 20; burst++) {
    const at = 2_000_000 + burst * 10_000
    const begun = Array.from({ length: 50 }, () => throughput.begin(at))
    for (const [i, one] of begun.entries()) throughput.finish(one, at + 2 * (i + 1))
  }
  t.ok(Math.abs(throughput.perSecond - 500) < 10, `${throughput.perSecond}`)
  t.equal(throughput.uncrowdedPerSecond, 1_000, 'what comes after the crowd')
})

t.test('who says nothing for a second or two keeps nobody out', async (t) => {
  const greetings = new Greetings()
  const opened = (tick: number) => new Greeting({} as Socket, tick, 0)
  const silent = [opened(1), opened(1)] as const
  for (const one of [...silent, opened(2)]) greetings.add(one)
  greetings.tick(2)
  t.equal(greetings.expected, 3)
  greetings.tick(3)
  t.equal(greetings.expected, 1)
  t.ok(greetings.remove(silent[0]))
  t.notOk(greetings.remove(silent[0]))
  t.equal(greetings.expected, 1)
  t.equal(greetings.all().length, 2)
})

/** One worker that finishes so many handshakes a second, one after the other. */
class ListenCandidate {
  private readonly throughput: Throughput
  private readonly admission: Admission
  private busyUntilMs = 0
  underWay = 0
  refused = 0

  constructor(
    private readonly perSecond: number,
    guess: number,
    lagMs: () => number = () => 0,
  ) {
    this.throughput = new Throughput(guess)
    const limits = { connectionsMax: 1e9, connectionsPerAddressMax: 1e9, handshakesPerSecondMax: 1e9 }
    this.admission = new Admission(
      { ...limits, handshakesInFlightMax: 2_000, loopLagMsMax: 500 },
      { lagMs, greeting: () => 0, handshaking: () => this.underWay },
      this.throughput,
    )
  }

  /** Gives when it is done, or the Retry-After in seconds. */
  knock(nowMs: number, done: (atMs: number, run: () => void) => void): number | null {
    const refusal = this.admission.admit('', { ms: nowMs, tick: Math.floor(nowMs / 1_000) })
    if (refusal) {
      this.refused++
      return refusal.retryAfterSeconds
    }
    this.underWay++
    const begun = this.throughput.begin(nowMs)
    this.busyUntilMs = Math.max(this.busyUntilMs, nowMs) + 1_000 / this.perSecond
    const endMs = this.busyUntilMs
    done(endMs, () => {
      this.underWay--
      this.throughput.finish(begun, endMs)
    })
    return null
  }
}

/** All devices come within a second, as after a crash. Gives when 99% and all are in, and what that took. */
function crowd(devices: number, candidates: readonly ListenCandidate[], seed: number) {
  const random = seeded(seed)
  const settings = deviceSettings()
  const events = new Map<number, (() => void)[]>()
  const at = (ms: number, run: () => void) => {
    const slot = Math.ceil(ms)
    const others = events.get(slot)
    if (others) others.push(run)
    else events.set(slot, [run])
  }
  let [nowMs, inside, to99Ms] = [0, 0, 0]
  const entered = () => {
    inside++
    if (inside >= 0.99 * devices && to99Ms === 0) to99Ms = nowMs
  }
  for (let i = 0; i < devices; i++) {
    const backoff = new Backoff(settings, random)
    const knock = () => {
      const door = candidates[Math.floor(random() * candidates.length)] as ListenCandidate
      const seconds = door.knock(nowMs, (ms, run) =>
        at(ms, () => {
          run()
          entered()
        }),
      )
      if (seconds === null) return
      backoff.retryAfter(nowMs, seconds * 1_000)
      at(backoff.next(nowMs), knock)
    }
    at(backoff.next(0), knock)
  }
  for (; inside < devices && nowMs < 3_600_000; nowMs++) {
    for (const run of events.get(nowMs) ?? []) run()
    events.delete(nowMs)
  }
  return { inside, to99Ms, refused: candidates.reduce((sum, { refused }) => sum + refused, 0) / devices }
}

for (const { devices, workers, perSecond, guess, what } of [
  { devices: 20_000, workers: 4, perSecond: 500, guess: 500, what: 'a guess that is right' },
  { devices: 20_000, workers: 4, perSecond: 1_500, guess: 500, what: 'faster than the guess' },
  { devices: 20_000, workers: 4, perSecond: 150, guess: 500, what: 'much slower than the guess' },
  { devices: 40_000, workers: 65, perSecond: 31, guess: 31, what: 'many workers' },
]) {
  t.test(`a refused crowd comes in by and by: ${what}`, async (t) => {
    const candidates = Array.from({ length: workers }, () => new ListenCandidate(perSecond, guess))
    const { inside, to99Ms, refused } = crowd(devices, candidates, 7)
    t.equal(inside, devices)
    const shortestMs = (1_000 * devices) / (workers * perSecond)
    t.ok(to99Ms < 1.5 * shortestMs + 5_000, `${to99Ms} ms, where ${shortestMs} is the least`)
    t.ok(refused < 6, `${refused} refusals a device`)
  })
}
