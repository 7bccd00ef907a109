/**
 * Checks the invariants (ARCHITECTURE.md) after a world has come to rest. The checks compare the messages that the app
 * servers sent (app-server.ts), the notifications that the apps saw (device.ts), and the records in the simulated store.
 */
import { unpack } from 'msgpackr'
import { Bucket, eventsStream, queueStream, queueSubject } from '../../protocol/subjects.js'
import { FINAL_KINDS } from '../../src/store/events.js'
import { LONG_MS, type Sent } from './app-server.js'
import type { SimDevice } from './device.js'
import { type Fates, readFates } from './fates.js'
import { PROJECTS } from './identities.js'
import { leftOver } from './left-over.js'
import type { World } from './world.js'

/** Processes know the time of the store this exactly, and a device stores a change of its clock error only above it. */
const CLOCK_DOUBT_MS = 500

export async function check(world: World): Promise<void> {
  checkRest(world)
  const fates = readFates(world)
  checkEnds(world, fates)
  checkUnicast(world, fates)
  checkLives(world, fates)
  checkGroups(world)
  for (const device of world.devices) checkApp(world, device)
  checkGaps(world, fates)
  if (world.plan.calm) for (const device of world.devices) checkOrder(world, device)
  await checkCounters(world, fates)
}

/** No record is left in MESSAGES, SCHEDULE or QUEUE, and every device is connected with an empty inbox. */
function checkRest(world: World): void {
  const { owed } = leftOver(world.broker.server, world.plan.split)
  if (owed) world.fail('stuck', owed)
  for (const device of world.devices) if (!device.isIdle) world.fail('stuck', `${device.label} does not come to rest`)
}

/** Each target has one accepted event and one final event. */
function checkEnds(world: World, fates: Fates): void {
  for (const fate of fates.all()) {
    if (fate.accepted !== 1) world.fail('end', `target ${fate.id} has ${fate.accepted} accepted events, not 1`)
    if (fate.finals.length !== 1) world.fail('end', `target ${fate.id} has ${fate.finals.length} final events, not 1`)
  }
}

/** I1: every accepted target has a final event, and the app saw each message whose event says `delivered`. */
function checkUnicast(world: World, fates: Fates): void {
  for (const sent of world.app.sent) {
    if (sent.group) continue
    for (const fate of fates.of(sent)) {
      const device = world.devices.find((other) => other.name === fate.device)
      const hasIt = device?.seen.some((seen) => seen.notification.id === fate.id) === true
      if (fate.finals[0] === 'delivered' && !hasIt) {
        world.fail('loss', `${sent.title} has the event delivered, but ${device?.label ?? fate.device} never saw it`)
      }
    }
    checkCancelled(world, fates, sent)
    if (!sent.accepted) continue
    const ended = fates.of(sent).filter((fate) => fate.finals.length > 0)
    if (ended.length !== sent.targets.length) {
      world.fail(
        'loss',
        `${sent.title} was accepted for ${sent.targets.length} targets, but ${ended.length} have ended`,
      )
    }
    if (sent.cancelled && !fates.of(sent).some((fate) => fate.finals[0] === 'cancelled')) {
      world.fail('end', `${sent.title} was cancelled, but no final event of it says so`)
    }
  }
}

/**
 * I1: no wrong clock ends a message before its time. The check uses the true times of the call that sent the message and
 * of the event that ended it.
 */
function checkLives(world: World, fates: Fates): void {
  for (const sent of world.app.sent) {
    if (sent.ttlMs === 0) continue
    const untilMs = Math.max(sent.calledAtMs, sent.notBeforeMs ?? 0) + sent.ttlMs - CLOCK_DOUBT_MS
    for (const { finals, endedAtMs } of fates.of(sent)) {
      if (finals[0] !== 'expired' || endedAtMs >= untilMs) continue
      world.fail('early', `${sent.title} expired ${untilMs - endedAtMs} ms before its time`)
    }
    for (const device of world.devices) {
      const early = device.seen.find(({ notification, expired, atMs }) => {
        return notification.title === sent.title && expired && atMs < untilMs
      })
      if (early)
        world.fail(
          'early',
          `${device.label} treated ${sent.title} as expired ${untilMs - early.atMs} ms before its time`,
        )
    }
  }
}

/** A cancel that was answered while the device was away is final: the device never gets the message. */
function checkCancelled(world: World, fates: Fates, sent: Sent): void {
  for (const { device: name, atMs } of sent.cancelledWhileAway) {
    const device = world.devices.find((other) => other.name === name)
    for (const { id } of fates.of(sent).filter((fate) => fate.device === name)) {
      const receivedAtMs = device?.receivedAtMs.get(BigInt(id)) ?? 0
      if (receivedAtMs > atMs) {
        world.fail('cancel', `${sent.title} was cancelled while ${device?.label} was away, but reached it afterwards`)
      }
    }
  }
}

/** I1 for groups: each device that was a member when the message was accepted got the message or a GAP. */
function checkGroups(world: World): void {
  for (const sent of world.app.sent) {
    if (!sent.group || !sent.accepted || sent.ttlMs !== LONG_MS) continue
    for (const device of world.devices) {
      const { kind, name } = sent.group
      const wasMember = device.memberships.some(
        (m) =>
          m.kind === kind &&
          m.name === name &&
          m.project === sent.project &&
          m.fromMs < sent.calledAtMs &&
          m.untilMs === Number.POSITIVE_INFINITY,
      )
      if (!wasMember || hasSeen(device, sent)) continue
      const hasGap = device.gaps.some((gap) => gap.reason !== 'queue_overflow' && gap.atMs >= sent.calledAtMs)
      if (!hasGap) world.fail('loss', `${device.label} was in ${sent.project}/${name}, but never saw ${sent.title}`)
    }
  }
}

/** I2 and I5: the app saw each message once, and no message that was sent to others. */
function checkApp(world: World, device: SimDevice): void {
  const first = new Map<string, number>()
  for (const { notification, incarnation } of device.seen) {
    const { title, possibleDuplicate, registrationId, group } = notification
    const sent = world.app.findByTitle(title)
    if (!sent || sent.body !== notification.message) {
      world.fail('isolation', `${device.label} saw ${title} with a body that no app server sent`)
      continue
    }
    if (group ? !isForGroup(device, sent, group) : !sent.targets.some((t) => isFor(t, device, registrationId))) {
      world.fail('isolation', `${device.label} saw ${title}, which was not sent to it`)
    }
    const key = `${title} ${registrationId}`
    const before = first.get(key)
    if (before === undefined) first.set(key, incarnation)
    if (before !== undefined && !possibleDuplicate) world.fail('duplicate', `${device.label} saw ${title} twice`)
    if (possibleDuplicate && incarnation === 1)
      world.fail('duplicate', `${device.label} saw ${title} marked as a possible duplicate, without a crash before`)
  }
}

function isFor(target: Sent['targets'][0], device: SimDevice, registrationId: string | null): boolean {
  return target.device === device.name && target.registrationId === registrationId
}

function isForGroup(device: SimDevice, sent: Sent, group: { kind: string; name: string; project: string }): boolean {
  const isSame = sent.group?.kind === group.kind && sent.group.name === group.name && sent.project === group.project
  const isMember =
    group.kind === 'app'
      ? device.projects.includes(group.project)
      : device.requestedTopics.has(`${group.project}/${group.name}`)
  return isSame && isMember
}

/**
 * No device is told of more dropped messages than were dropped. A record that a killed nats-server brought back may be
 * evicted a second time, and is then counted a second time.
 */
function checkGaps(world: World, fates: Fates): void {
  const queued = Array.from({ length: world.plan.split }, (_, i) => world.broker.server.stream(queueStream(i)))
  const broughtBack = queued.flatMap((stream) => [...stream.undone.values()])
  for (const device of world.devices) {
    const overflows = device.gaps.filter((gap) => gap.reason === 'queue_overflow')
    const told = overflows.reduce((sum, gap) => sum + gap.count, 0)
    const own = [...fates.all()].filter((fate) => fate.device === device.name)
    const dropped = own.filter((fate) => fate.finals[0] === 'dropped').length
    // Only records of the device's own queue count.
    const subject = queueSubject(device.name)
    const back = broughtBack.filter((other) => other === subject).length
    if (told > dropped + back) {
      world.fail('gap', `${device.label} was told of ${told} dropped messages, but ${dropped} were dropped`)
    }
  }
}

/** I3, in a run without faults: an app sees the messages of each producer in the order in which they were accepted. */
function checkOrder(world: World, device: SimDevice): void {
  const newest = new Map<string, number>()
  const early = device.seen.find(
    ({ notification, atMs }) => (world.app.findByTitle(notification.title)?.notBeforeMs ?? 0) > atMs,
  )
  if (early) world.fail('order', `${device.label} saw ${early.notification.title} before its time`)
  for (const { notification, expired } of device.seen) {
    // A message that had expired is not shown. If the device restarts, it also waits for the time of the server.
    if (expired) continue
    const sent = world.app.findByTitle(notification.title)
    // A scheduled message may come after messages that were accepted later.
    if (!sent || sent.notBeforeMs !== null) continue
    const key = `${sent.producer} ${notification.registrationId ?? `${sent.group?.kind} ${sent.group?.name}`}`
    const before = newest.get(key) ?? 0
    if (before > sent.n) world.fail('order', `${device.label} saw m${sent.n} after m${before}`)
    newest.set(key, Math.max(before, sent.n))
  }
}

/** Longer than a core that has just started needs to get a lease and to write a checkpoint. */
const FOLD_MS_MAX = 60_000

/**
 * True if every event is counted, according to the checkpoints that src/store/counters.ts writes. The fold may finish
 * after the rest of the world, because a core must first get the lease.
 */
function isFolded(world: World): boolean {
  const { server } = world.broker
  const checkpoints = server.stream(`KV_${Bucket.COUNTERS}`)
  return Array.from({ length: world.plan.split }, (_, i) => i).every((i) => {
    const checkpoint = checkpoints.last(`$KV.${Bucket.COUNTERS}.${i}`, Number.POSITIVE_INFINITY)
    const [, bases = 0, all = bases] = checkpoint ? (unpack(checkpoint.body) as number[]) : []
    return all >= server.stream(eventsStream(i)).lastSequence
  })
}

/** I4: the counters agree with the events, and no target is pending. */
async function checkCounters(world: World, fates: Fates): Promise<void> {
  const core = world.cores.find((other) => other.isUp)
  if (!core?.delivery) return world.fail('stuck', 'no core is up')
  if (!(await world.clock.until(() => isFolded(world), FOLD_MS_MAX))) {
    world.fail('conservation', 'the fold of the counters does not reach the last event')
  }
  for (const project of PROJECTS) {
    const rows = await world.clock.advanceUntil(core.delivery.readCounters(project))
    const counted = (kind: string) => rows.reduce((sum, row) => sum + (row.counts[kind] ?? 0), 0)
    const own = [...fates.all()].filter((fate) => fate.project === project)
    if (counted('accepted') !== own.length) {
      world.fail(
        'conservation',
        `${project}: the counter accepted is ${counted('accepted')}, the events say ${own.length}`,
      )
    }
    for (const kind of FINAL_KINDS) {
      const ended = own.filter((fate) => fate.finals[0] === kind).length
      if (counted(kind) !== ended)
        world.fail('conservation', `${project}: the counter ${kind} is ${counted(kind)}, the events say ${ended}`)
    }
    if (counted('pending') !== 0)
      world.fail('conservation', `${project}: the counter pending is ${counted('pending')}, not 0`)
  }
}

function hasSeen(device: SimDevice, sent: Sent): boolean {
  return device.seen.some((seen) => seen.notification.title === sent.title)
}
