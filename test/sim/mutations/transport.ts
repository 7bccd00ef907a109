/** Mutations of sessions, handshakes, audits and settlements. */
import { edit, type Mutation } from './mutation.js'

const SESSIONS = 'store/sessions'
const HANDSHAKE = 'transport/admission/handshake'
const SESSION = 'transport/session/session'
const AUDIT = 'transport/upkeep/audit'
const TOMBSTONES = 'transport/session/tombstones'

export const transportMutations: Mutation[] = [
  {
    name: 'close-without-compare-and-set',
    rule: 'A tombstone replaces only the record of the session that ended.',
    edits: [
      edit(SESSIONS, 'live: false, atMs: this.clock.now() }), revision);', 'live: false, atMs: this.clock.now() }));'),
    ],
  },
  {
    name: 'life-by-the-clock-of-the-worker',
    rule: 'A worker counts down the remaining life of a message independently of its own clock.',
    test: 'unit/transport/wrong-clock.test.js',
    edits: [edit('transport/delivery/downlink', 'const sentAtMs = atMs ?? now.ms;', 'const sentAtMs = now.ms;')],
  },
  {
    name: 'lapse-by-a-clock-that-is-set',
    rule: 'The lapse of a lease is detected also after a clock was set.',
    test: 'unit/transport/stores.test.js',
    edits: [edit('store/workers', 'const beginMs = this.clock.steadyMs();', 'const beginMs = this.clock.now();')],
  },
  {
    name: 'number-of-the-server',
    rule: "A session is fenced by the device's own connection number.",
    edits: [edit(SESSIONS, '!isRenewed && next.connection <= numberBefore', 'false')],
  },
  {
    name: 'older-token-goes-on',
    rule: 'A connection with an older token replaces no session of a newer one.',
    test: 'unit/transport/stores.test.js',
    edits: [edit(SESSIONS, 'isKnown && token < tokenBefore', 'false')],
  },
  {
    name: 'renewal-keeps-the-fence',
    rule: 'A renewed token starts a new sequence of connection numbers.',
    test: 'unit/transport/stores.test.js',
    edits: [edit(SESSIONS, '!isRenewed && next.connection <= numberBefore', 'next.connection <= numberBefore')],
  },
  {
    name: 'step-without-bound',
    rule: 'A connection number may rise by a limited step only.',
    test: 'unit/transport/stores.test.js',
    edits: [edit(SESSIONS, 'next.connection > most', 'false')],
  },
  {
    name: 'ended-registration-is-sent',
    rule: 'A worker reports a message to an ended registration as such.',
    test: 'unit/transport/session.test.js',
    edits: [edit(SESSION, 'number < next && !live.includes(number)', 'false')],
  },
  {
    name: 'new-registration-taken-for-ended',
    rule: 'A registration number that the record does not have yet does not count as ended.',
    test: 'unit/transport/session.test.js',
    edits: [edit(SESSION, 'number < next && !live.includes(number)', '!live.includes(number)')],
  },
  {
    name: 'registered-after-written',
    rule: 'A worker registers the socket of a device before it writes the session.',
    test: 'unit/transport/handshake-sim.test.js',
    edits: [
      edit(HANDSHAKE, '        registry.add(session);', ''),
      edit(
        HANDSHAKE,
        `            if (!claim)
                return;`,
        `            if (!claim)
                return;
            this.parts.registry.add(session);`,
      ),
    ],
  },
  {
    name: 'no-read-after-the-session-write',
    rule: 'Every session write is followed by a read of QUEUE.',
    edits: [edit(HANDSHAKE, '                catchUps.read(session.device),', '                Promise.resolve([]),')],
  },
  {
    name: 'read-before-the-session-write',
    rule: 'The read of QUEUE comes after the session write is confirmed.',
    test: 'unit/transport/handshake-sim.test.js',
    edits: [
      edit(
        HANDSHAKE,
        '            const claim = await this.claim(session, credential);',
        `            const early = await catchUps.read(session.device);
            const claim = await this.claim(session, credential);`,
      ),
      edit(HANDSHAKE, '                catchUps.read(session.device),', '                early,'),
    ],
  },
  {
    name: 'catch-up-mark-ignored',
    rule: 'After a request to catch up during a catch-up, the worker reads the queue again before the session goes live.',
    edits: [
      edit(
        SESSION,
        `                this.backlog.isReadDue = true;
                //`,
        `                //`,
      ),
      edit(
        SESSION,
        `                if (this.isQueueSent(this.backlog))
                    this.read(this.backlog);
                return;`,
        `                return;`,
      ),
    ],
  },
  {
    name: 'catch-up-ignored',
    rule: 'A worker that confirms a catch-up reads the queue.',
    edits: [edit('transport/delivery/downlink', 'session.catchUp(turns.now);', '')],
  },
  {
    name: 'live-while-catching-up',
    rule: 'Live messages to a device wait while it catches up.',
    edits: [
      edit(
        SESSION,
        `        else if (this.backlog)
            this.hold(`,
        `        else if (this.state === 'claiming' || this.state === 'reading')
            this.hold(`,
      ),
    ],
  },
  {
    name: 'audit-off',
    rule: 'Workers audit their sessions against the table.',
    edits: [edit(AUDIT, '    slice() {', '    slice() {\n        if (this) return;')],
  },
  {
    name: 'audit-claims-without-reading',
    rule: 'A session that is written again is followed by a read of QUEUE.',
    edits: [edit(AUDIT, 'session.readAgain();', '')],
  },
  {
    name: 'settlement-not-repeated',
    rule: 'A worker repeats a settlement until the core has confirmed it.',
    edits: [
      edit(
        'transport/delivery/settlements',
        `            this.options.onError('settle', error);`,
        `            this.options.onError('settle', error);
            for (const item of batch.values()) this.unconfirmed.delete(keyOf(item));`,
      ),
    ],
  },
  {
    name: 'settlement-never-sent',
    rule: 'A queued record is settled after the device acknowledged it.',
    edits: [
      edit(
        SESSION,
        `            for (const queued of message.queued)
                this.settle(queued);`,
        `                for (const _ of message.queued)
                    ;`,
      ),
    ],
  },
  {
    name: 'unsettled-is-forgotten',
    rule: 'After a settlement was refused for lack of room, the session reads QUEUE again.',
    test: 'unit/transport/session.test.js',
    edits: [edit('transport/session/optional-state', 'hasWaitedInVain || optional.isUnsettled', 'hasWaitedInVain')],
  },
  {
    name: 'newest-refused-is-taken-as-settled',
    rule: 'A settlement without room is refused, not accepted and dropped.',
    test: 'unit/transport/settlements.test.js',
    edits: [edit('transport/delivery/settlements', '            return false;', '            return true;')],
  },
  {
    name: 'duplicate-loses-its-record',
    rule: 'The queued record of a message in flight is settled by the acknowledgement of that message.',
    edits: [edit(SESSION, `                sent.queued.push(queueRefOf(entry));`, '                void entry;')],
  },
  {
    name: 'gap-count-without-mark',
    rule: 'A GAP is told once for each state of a queue.',
    edits: [
      edit(
        'device/connection/intake',
        'const fresh = mark ? newInGap(this.state.gap, mark) : count;',
        'const fresh = count;',
      ),
      edit(SESSION, '            this.ensureOptional().gap = gap.mark;', ''),
    ],
  },
  {
    name: 'waiting-end-is-no-session',
    rule: 'While the tombstone of a session waits to be written, its number counts as written (ADR 12).',
    test: 'unit/transport/handshake-sim.test.js',
    edits: [edit(HANDSHAKE, '?? tombstones.fenceOf(device)', '?? null')],
  },
  {
    name: 'tombstones-without-bound',
    rule: 'A bounded number of tombstones waits to be written (ADR 12).',
    test: 'unit/transport/tombstones.test.js',
    edits: [edit(TOMBSTONES, 'this.waiting.size > this.pace.tombstonesWaitingMax', 'this.waiting.size < 0')],
  },
  {
    name: 'tombstones-of-a-worker-that-leaves',
    rule: 'A worker that stops writes no tombstones, because the end of its lease ends its sessions (ADR 12).',
    test: 'unit/transport/tombstones.test.js',
    edits: [edit(TOMBSTONES, '        if (this.isLeaving)\n            return;', '')],
  },
  {
    name: 'older-end-stands-last',
    rule: 'Of two tombstones of a device the newer one is written (ADR 12).',
    test: 'unit/transport/tombstones.test.js',
    edits: [
      edit(
        TOMBSTONES,
        '        this.waiting.delete(device);\n        this.waiting.set(',
        '        if (!this.waiting.has(device))\n            this.waiting.set(',
      ),
    ],
  },
  {
    name: 'ticket-of-any-number',
    rule: 'A ticket replaces the read of the session only if the connection number is above its own (ADR 12, ADR 13).',
    test: 'unit/transport/handshake-sim.test.js',
    edits: [edit(HANDSHAKE, 'ticket && refusalOf(fence, ticket) === null ? ticket : null', 'ticket')],
  },
]
