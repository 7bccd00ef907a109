/** Mutations of accept, route, enqueue, settle, expire, cancel and the counters. */
import { edit, type Mutation } from './mutation.js'

const ROUTE = 'core/delivery/route/route'
const ENQUEUE = 'core/delivery/queue/enqueue'
const LOOK = 'core/delivery/route/session-recheck'
const EVENTS = 'store/events'
const ROOM_OWED = 'core/delivery/room/owed'
const HISTORY = 'core/delivery/room/history'

export const coreMutations: Mutation[] = [
  {
    name: 'clock-of-the-machine',
    rule: 'The life of a message is judged by the clock of the store.',
    edits: [
      edit('store/service-clock', 'Math.round(this.local.steadyMs() + this.aheadMs)', 'Math.round(this.local.now())'),
    ],
  },
  {
    name: 'clock-of-the-start',
    rule: 'A process whose clock is wrong from its start learns the time from the store.',
    test: 'unit/service-clock.test.js',
    edits: [edit('store/service-clock', 'this.aheadMs = Math.min(Math.max(this.aheadMs, least), most);', '')],
  },
  {
    name: 'word-of-a-worker',
    rule: 'The router verifies a report of a worker that a message has expired.',
    test: 'delivery/route-faults.test.js',
    edits: [edit(ROUTE, 'if (isExpired(target.message, nowMs))', 'if (true)')],
  },
  {
    name: 'room-for-the-owed-not-kept',
    rule: 'A message is accepted only if there is room for every event that accepted messages still need.',
    test: 'delivery/room.test.js',
    edits: [
      edit(ROOM_OWED, 'unrouted * UNROUTED_EVENT_BYTES +', '0 +'),
      edit(ROOM_OWED, '* QUEUED_EVENT_BYTES', '* 0'),
    ],
  },
  {
    name: 'room-of-the-queue-not-kept',
    rule: 'A message is accepted only if the queue of its device has room for it.',
    test: 'delivery/room.test.js',
    edits: [edit(ROOM_OWED, 'if (isShort(queue[index], toQueue))', 'if (false)')],
  },
  {
    name: 'pending-message-forgotten',
    rule: 'The events of a message that has not ended stay in the store.',
    test: 'delivery/room.test.js',
    edits: [edit(HISTORY, "return state === 'open' ? own : [...own, state];", 'return [];')],
  },
  {
    name: 'moved-event-counted-again',
    rule: 'An event that is appended again, because older ones leave, is counted once.',
    test: 'delivery/room.test.js',
    edits: [edit('core/delivery/query/counters', '|| isMoved(record)', '')],
  },
  {
    name: 'history-leaves-before-it-is-counted',
    rule: 'No event leaves the store before it is counted.',
    test: 'delivery/room.test.js',
    edits: [edit('core/delivery/delivery', ': fold.storedAt', ': Number.MAX_SAFE_INTEGER')],
  },
  {
    name: 'left-message-ends-again',
    rule: 'A message whose events left the store gets no second final event.',
    test: 'delivery/room.test.js',
    edits: [edit(EVENTS, 'if (await this.hasLeft(id))', 'if (false)')],
  },
  {
    name: 'accept-before-stored',
    rule: 'A message is accepted only when every target is stored.',
    edits: [edit('core/delivery/accept/accept', 'await mapAtOnce(stored,', 'void mapAtOnce(stored,')],
  },
  {
    name: 'ack-before-enqueue',
    rule: 'The JetStream acknowledgement comes last.',
    edits: [
      edit(
        ROUTE,
        `            target.state = 'enqueuing';`,
        `            target.state = 'enqueuing', target.delivery.ack();`,
      ),
    ],
  },
  {
    name: 'ack-before-final',
    rule: 'The final event is written before the JetStream acknowledgement.',
    edits: [
      edit(
        ROUTE,
        `        this.options.inflight.markReturned(target, 'ending');`,
        `        this.options.inflight.markReturned(target, 'ending'), target.delivery.ack();`,
      ),
    ],
  },
  {
    name: 'ack-without-accepted',
    rule: 'A message has its accepted event before it is acknowledged.',
    edits: [edit(ROUTE, `if (mark !== 'unknown')`, 'if (true)')],
  },
  {
    name: 'queued-for-an-ended-registration',
    rule: 'A message to an ended registration ends as failed, and is not queued.',
    test: 'delivery/route.test.js',
    edits: [edit(ROUTE, 'await this.refuseEnded(device, owed);', '')],
  },
  {
    name: 'no-second-look',
    rule: 'After an append to the queue the router reads the session again.',
    edits: [
      edit(
        ROUTE,
        'await Promise.all([sessionRecheck.isSeen(device), ...traces])',
        'await Promise.all([true, ...traces])',
      ),
    ],
  },
  {
    name: 'second-look-before-enqueue',
    rule: 'The second read of the session comes after the append.',
    edits: [
      edit(
        ROUTE,
        `            const results = await queueWriter.enqueue(device, messages, mayBeQueued);`,
        `            const early = await sessionRecheck.isSeen(device);
            const results = await queueWriter.enqueue(device, messages, mayBeQueued);`,
      ),
      edit(
        ROUTE,
        'await Promise.all([sessionRecheck.isSeen(device), ...traces])',
        'await Promise.all([early, ...traces])',
      ),
    ],
  },
  {
    name: 'second-look-error-is-offline',
    rule: 'An error of the second read means unknown, never offline.',
    test: 'delivery/session-recheck.test.js',
    edits: [
      edit(
        LOOK,
        `            if (error instanceof BrokerError)
                return false;`,
        `            if (error instanceof BrokerError)
                return true;`,
      ),
    ],
  },
  {
    name: 'second-look-silence-is-dead',
    rule: 'A worker that does not answer is unknown until its lease has lapsed.',
    edits: [edit(LOOK, `this.liveness.isDead(instance, worker) ? 'dead' : 'unknown'`, `true ? 'dead' : 'unknown'`)],
  },
  {
    name: 'second-look-from-a-replica',
    rule: 'The second read of the session is authoritative.',
    test: 'delivery/session-recheck.test.js',
    edits: [edit(LOOK, 'lookup(device, { authoritative: true })', 'lookup(device, { authoritative: false })')],
  },
  {
    name: 'second-look-asks-nobody',
    rule: 'If the second read finds a session, its worker is asked to catch up.',
    edits: [edit(LOOK, 'const answer = await this.ask(device, session);', `const answer = 'here';`)],
  },
  {
    name: 'redelivered-goes-live',
    rule: 'A redelivered message never goes live.',
    edits: [
      edit(ROUTE, `next: redelivered ? 'enqueue' : 'send'`, `next: 'send'`),
      edit(ROUTE, 'const session = redelivered || this.lanes.has', 'const session = this.lanes.has'),
    ],
  },
  {
    name: 'ended-is-queued-again',
    rule: 'A redelivered message that has its final event is not appended.',
    edits: [
      edit(ROUTE, '(await this.options.events.readFinal(target.message.id)) !== null]', 'false]'),
      edit(ENQUEUE, '        await this.removeEnded(device, messages);', ''),
    ],
  },
  {
    name: 'ended-stays-queued',
    rule: 'A message that ends after an earlier delivery attempt is deleted from the queue.',
    test: 'delivery/route-faults.test.js',
    edits: [
      edit(
        ROUTE,
        `            if (target.redelivered)
                await queueWriter.withdraw(device, [target.message]);`,
        '',
      ),
    ],
  },
  {
    name: 'acknowledged-while-enqueuing-stops-it',
    rule: 'An append that has begun is completed; an acknowledgement meanwhile only writes the event.',
    edits: [
      edit(
        ROUTE,
        `else if (target.state !== 'ending')`,
        `else if (target.state !== 'ending' && !target.delivery.ack())`,
      ),
    ],
  },
  {
    name: 'no-lanes',
    rule: "A router handles one device's messages one by one while one of them is being queued.",
    edits: [edit(ROUTE, 'this.lanes.has(message.device)', 'false')],
  },
  {
    name: 'final-without-compare-and-set',
    rule: 'A target has one final event.',
    edits: [
      edit(
        EVENTS,
        'append(subject, body, { expectedLastSubjectSequence: 0 })',
        `append(subject, body, kind === 'final' ? {} : { expectedLastSubjectSequence: 0 })`,
      ),
    ],
  },
  {
    name: 'accepted-without-compare-and-set',
    rule: 'A target has one accepted event.',
    edits: [
      edit(
        EVENTS,
        'append(subject, body, { expectedLastSubjectSequence: 0 })',
        `append(subject, body, kind === 'accepted' ? {} : { expectedLastSubjectSequence: 0 })`,
      ),
    ],
  },
  {
    name: 'record-deleted-before-the-event',
    rule: 'The queued record is deleted only after the final event is stored.',
    edits: [
      edit(
        'core/delivery/queue/settle',
        '            const ends = await Promise.allSettled(items.map((item) => this.end(item)));',
        `            await this.options.queue.settle(device, items.map((item) => ({ sequence: item.queueSequence, id: item.id })), 0);
            const ends = await Promise.allSettled(items.map((item) => this.end(item)));`,
      ),
    ],
  },
  {
    name: 'settled-without-the-event',
    rule: 'A record has its final event before it is settled.',
    test: 'delivery/settle.test.js',
    edits: [edit('core/delivery/queue/settle', `if (ends[index]?.status === 'fulfilled')`, 'if (ends[index])')],
  },
  {
    name: 'enqueue-without-compare-and-set',
    rule: 'An append to a queue is a compare-and-set.',
    edits: [edit('store/queue', '            expectedLastSubjectSequence: expectedLast,\n', '')],
  },
  {
    name: 'newest-deleted-first',
    rule: 'The newest record of a queue is never deleted while older ones remain.',
    test: 'delivery/queue-crash.test.js',
    edits: [edit('store/queue', '[...sequences].sort((a, b) => a - b)', '[...sequences].sort((a, b) => b - a)')],
  },
  {
    name: 'dropped-counted-unwon',
    rule: 'A drop counts only if its final event was the first.',
    edits: [edit(ENQUEUE, `outcome.won || outcome.existing?.kind === 'dropped'`, 'true')],
  },
  {
    name: 'dropped-without-event',
    rule: 'A message that is evicted from a queue ends as dropped.',
    edits: [edit(ENQUEUE, 'const dropped = await this.drop(excess, nowMs);', 'const dropped = excess.length;')],
  },
  {
    name: 'expired-stays-queued',
    rule: 'The expiry step deletes an expired record from the queue.',
    edits: [
      edit(
        'core/delivery/queue/expire',
        'await queue.remove(device, new Set(own.map((entry) => entry.id)), clock.now());',
        '',
      ),
      edit('core/delivery/queue/expire', 'await queue.deleteUnreachable(device, ', 'await (async () => {})(device, '),
    ],
  },
  {
    name: 'strays-not-swept-out',
    test: 'delivery/expire-step.test.js',
    rule: 'The expiry step deletes records that a reader of the queue no longer reaches.',
    edits: [
      edit('core/delivery/queue/expire', 'await queue.deleteUnreachable(device, ', 'await (async () => {})(device, '),
    ],
  },
  {
    name: 'no-expiry-entry',
    rule: 'A queued message has an entry in EXPIRY.',
    edits: [
      edit(
        ENQUEUE,
        'return this.options.expiry.addQueued(message, queueSequence, this.options.clock.now());',
        'return Promise.resolve();',
      ),
    ],
  },
  {
    name: 'cancel-answers-before-the-router-is-done',
    rule: 'A cancel is answered only when no router processes the message any more.',
    test: 'delivery/final-events.test.js',
    edits: [
      edit(
        'core/delivery/cancel',
        '        await mapAtOnce(ended, READS_AT_ONCE, ({ id, device }) => routerIsDone(id, device, deadlineMs));',
        '',
      ),
    ],
  },
  {
    name: 'router-keeps-what-a-cancel-claimed',
    rule: 'A router drops a message if a cancel stored its accepted event first.',
    test: 'delivery/final-events.test.js',
    edits: [edit(ROUTE, `marks.get(target) === 'present'`, 'false')],
  },
  {
    name: 'back-from-a-worker-unread',
    rule: 'The router reads the final event of a message that a worker returns before it queues the message.',
    test: 'delivery/final-events.test.js',
    edits: [edit(ROUTE, '!target.redelivered && target.session === null', '!target.redelivered')],
  },
  {
    name: 'cancelled-stays-queued',
    rule: 'A cancelled message is deleted from the queue.',
    edits: [edit('core/delivery/cancel', '        await queue.remove(device, new Set([id]), atMs);', '')],
  },
  {
    name: 'counted-twice',
    rule: 'The counters are exact after crashes: events up to the sequence of the checkpoint are not counted again.',
    edits: [edit('core/delivery/query/counters', 'if (sequence <= fold.sequence)', 'if (sequence < 0)')],
  },
  {
    name: 'absent-at-a-replica-is-gone',
    rule: 'A record counts as absent only if the leader says so.',
    edits: [edit('store/queue', '.at(sequence, { authoritative: true })', '.at(sequence)')],
  },
  {
    name: 'ended-holds-up-the-queue',
    rule: 'A record that came back after its message ended is deleted, so that the records behind it can be settled.',
    test: 'delivery/queue-crash.test.js',
    edits: [edit('store/queue', '!(await hasEnded(id))', 'true')],
  },
  {
    name: 'out-of-reach-holds-up-the-queue',
    rule: 'A record that a reader of the queue no longer reaches blocks no other record.',
    test: 'delivery/queue-records.test.js',
    edits: [
      edit('store/queue', 'return [...gone, ...deletable.filter((sequence) => left.has(sequence))]', 'return gone'),
    ],
  },
  {
    name: 'settled-by-sequence-alone',
    rule: 'A queued record is settled by its sequence and the id of its message.',
    test: 'delivery/queue-crash.test.js',
    edits: [
      edit('store/queue', 'entries[index]?.record.message.id === item.id ? entries[index] : null', 'entries[index]'),
    ],
  },
  {
    name: 'held-past-its-ack-wait',
    rule: 'A first delivery that waited longer than its ack wait is treated as a redelivery.',
    test: 'delivery/route-faults.test.js',
    edits: [
      edit(
        ROUTE,
        'owed.filter((target) => this.redeliveries.mayBeElsewhere(target))',
        'owed.filter((target) => target.redelivered)',
      ),
    ],
  },
  {
    name: 'out-of-reach-without-entry',
    rule: 'A record has its entry in EXPIRY before a reader of the queue can no longer reach it.',
    test: 'delivery/enqueue.test.js',
    edits: [
      edit(ENQUEUE, 'await this.noteAll(plan.toDelete);', ';'),
      edit(
        'store/queue',
        'await Promise.all(toDelete.map((entry) => this.noteExpiry(entry.record.message, entry.sequence)));',
        '',
      ),
    ],
  },
  {
    name: 'late-record-passed-over',
    rule: 'A record that is stored in SCHEDULE or EXPIRY after its time is processed nevertheless.',
    test: 'delivery/schedule.test.js',
    edits: [edit('core/delivery/schedule/buckets', 'added !== null && added.bucket < current', 'false')],
  },
  {
    name: 'copy-without-entry',
    rule: 'A copied record has its entry in EXPIRY before the original is deleted.',
    test: 'delivery/queue-records.test.js',
    edits: [edit('store/queue', 'await this.noteExpiry(message, sequence);', '')],
  },
  {
    name: 'appended-after-its-drop',
    rule: 'A message is not appended after its drop was counted.',
    test: 'delivery/enqueue.test.js',
    edits: [edit(ENQUEUE, 'return (await this.options.events.readFinal(message.id)) !== null;', 'return false;')],
  },
]
