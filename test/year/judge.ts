/** The checks that look at the whole once the year is over. */
import { EXPIRY_STREAM, messagesStream, queueStream, SCHEDULE_STREAM } from '../../protocol/subjects.js'
import { FINAL_KINDS } from '../../src/store/events.js'
import { type Act, rotateKeys } from './calendar.js'
import { SPLIT } from './settings.js'
import { DAY_MS, PROJECTS, type YearWorld } from './world.js'

/** @param acted how many of the acts took place. */
export async function judge(world: YearWorld, acts: readonly Act[], acted: number): Promise<void> {
  if (acted < acts.length) world.wrong('acts', `${acts.length - acted} of ${acts.length} did not take place`)
  judgeDevices(world)
  judgeKeys(world, acts.filter(({ run }) => run === rotateKeys).length)
  judgeRoom(world)
  await judgeCounters(world)
}

function judgeDevices(world: YearWorld): void {
  const now = world.clock.now()
  for (const device of world.devices) {
    if (world.goodbyes.has(device)) continue
    if (!device.isLive) world.wrong('hands', `${device.label} is not connected at the end`)
    if (device.tokenExpiresAtMs <= now) world.wrong('tokens', `${device.label} has a token that has ended`)
  }
}

function judgeKeys(world: YearWorld, planned: number): void {
  if (world.rotations !== planned) world.wrong('keys', `${world.rotations} rotations instead of ${planned}`)
  for (const kind of ['accessToken', 'ticket'] as const) {
    const left = world.keys.count(kind)
    // The one that signs, and those before it whose day is not over.
    if (left > 3) world.wrong('keys', `${left} keys of kind ${kind} are left`)
  }
}

/** Work queues are empty, and what has an age is not older. */
function judgeRoom(world: YearWorld): void {
  const { clock, devices, settings } = world
  const { server } = world.broker
  const wrong = (check: 'room', what: string) => world.wrong(check, what)
  const isLeft = (name: string) => {
    const { messages } = server.stream(name).state()
    if (messages > 0) wrong('room', `${name} still holds ${messages} records`)
  }
  for (let i = 0; i < SPLIT; i++) for (const name of [messagesStream(i), queueStream(i)]) isLeft(name)
  for (const name of [SCHEDULE_STREAM, EXPIRY_STREAM]) isLeft(name)
  for (const stream of server.streams) {
    const { ageMs, bytesMax, name } = stream.definition
    if (stream.bytes > bytesMax) wrong('room', `${name} has ${stream.bytes} of ${bytesMax} bytes`)
    const oldest = stream.next('>', 1)
    if (ageMs > 0 && oldest && clock.now() - oldest.storedAtMs > ageMs + DAY_MS) {
      wrong('room', `${name} holds a record of day ${oldest.storedAtMs}`)
    }
  }
  const tables: Record<string, number> = {
    KV_SESSIONS: devices.length,
    KV_DEVICES: devices.length,
    KV_WORKERS: 20,
    KV_CORES: 200,
    KV_REVOKED: 10,
    KV_COUNTERS: 100 + settings.core.counterDaysMax * SPLIT,
  }
  for (const [name, max] of Object.entries(tables)) {
    const { messages } = server.stream(name).state()
    if (messages > max) wrong('room', `${name} has ${messages} entries, more than ${max}`)
  }
}

async function judgeCounters(world: YearWorld): Promise<void> {
  for (const project of PROJECTS) {
    const asked = world.operator.ask('GET', `/projects/${project}/counters`)
    const { total = {} } = (await world.clock.advanceUntil(asked)) as { total?: Record<string, number> }
    const counted = (what: string) => total[what] ?? 0
    const accepted = world.ledger.acceptedOf.get(project) ?? 0
    if (counted('accepted') !== accepted) {
      world.wrong('counters', `${project}: ${counted('accepted')} counted as accepted, ${accepted} were`)
    }
    for (const kind of FINAL_KINDS) {
      const ended = world.ledger.ended.get(project)?.get(kind) ?? 0
      if (counted(kind) !== ended) world.wrong('counters', `${project}: ${counted(kind)} ${kind}, ${ended} were`)
    }
  }
}
