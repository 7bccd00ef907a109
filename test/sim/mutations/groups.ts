/** Mutations of group messages (docs/adr/0008-groups.md). */
import { edit, type Mutation } from './mutation.js'

const LOG = 'transport/groups/group-log'
const FOLLOWER = 'transport/groups/follower'
const GROUPS = 'transport/groups/groups'
const STARTS = 'transport/groups/starts'

export const groupMutations: Mutation[] = [
  {
    name: 'done-before-leaving',
    rule: 'The worker leaves the groups that a device has no more before the device gets DONE.',
    test: 'unit/transport/group-audiences.test.js',
    edits: [edit('transport/delivery/effects', '!mustLeave || (await leaveGroups(session))', 'true')],
  },
  {
    name: 'left-group-goes-live',
    rule: 'A catch-up brings no group back that the device has left.',
    test: 'unit/transport/group-audiences.test.js',
    edits: [
      edit(
        'transport/groups/groups',
        'catchUp.follower?.keepOnly(catchUp.staying.subjects);\n        }\n        return joined;',
        '}\n        return joined;',
      ),
    ],
  },
  {
    name: 'registrations-not-renewed',
    rule: 'A group frame names the registrations that the device has in the group now.',
    test: 'unit/transport/group-audiences.test.js',
    edits: [edit('transport/groups/groups', 'if (topic !== wanted)', 'if (wanted === undefined)')],
  },
  {
    name: 'hello-before-the-tail',
    rule: 'A worker knows the position of its tail before it accepts a HELLO.',
    edits: [edit('transport/worker', '        await this.groups.start();', '        void this.groups.start();')],
  },
  {
    name: 'reads-past-the-tail',
    test: 'unit/transport/group-rules.test.js',
    rule: "Catch-up never reads past the worker's own tail.",
    edits: [
      edit(
        FOLLOWER,
        'this.parts.log.readNext(subject, this.positionOf(subject), target)',
        'this.parts.log.readNext(subject, this.positionOf(subject), Infinity)',
      ),
    ],
  },
  {
    name: 'tail-behind-the-cursor',
    test: 'unit/transport/groups-places.test.js',
    rule: "Catch-up waits when the tail is behind the device's cursor.",
    edits: [
      edit(
        FOLLOWER,
        '        if (furthest > log.position)\n            await this.parts.untilReached(this.session, furthest);',
        '',
      ),
      edit(GROUPS, '        if (furthest <= this.log.position) {', '        if (furthest >= 0) {'),
    ],
  },
  {
    name: 'topics-not-in-order',
    rule: 'Catch-up merges all topics of a device in sequence order.',
    edits: [
      edit(FOLLOWER, 'head[1].sequence < first[1].sequence', 'head[1].sequence > first[1].sequence'),
      edit(LOG, 'found.sort((a, b) => a.sequence - b.sequence)', 'found.sort((a, b) => b.sequence - a.sequence)'),
    ],
  },
  {
    name: 'live-in-a-later-turn',
    rule: 'Topics go live in the turn in which the catch-up reaches the tail.',
    edits: [
      edit(
        FOLLOWER,
        '                this.parts.join(this.session, subject, this.members.get(subject) ?? []);',
        '                void this.parts.untilReached(this.session, log.position + 1).then(() => this.parts.join(this.session, subject, this.members.get(subject) ?? []));',
      ),
    ],
  },
  {
    name: 'live-before-the-end',
    rule: 'Topics go live only when the catch-up has reached the tail.',
    edits: [edit(FOLLOWER, 'if (this.position < log.floor) {', 'if (this.position < 0) {')],
  },
  {
    name: 'nothing-seen-is-nothing-missed',
    rule: 'A topic without a message in the tail is read from the start of the tail.',
    edits: [edit(LOG, '?.lastSequence ?? this.tailStart)', '?.lastSequence ?? 0)')],
  },
  {
    name: 'forgotten-topic-is-unseen',
    rule: 'A topic that the worker evicted from its memory counts as seen up to that position.',
    edits: [edit(LOG, '        this.tailStart = Math.max(this.tailStart, topic.lastSequence);', '')],
  },
  {
    name: 'since-ignored',
    rule: "Topics newer than the cursor's version start at their own `since`.",
    test: 'unit/transport/group-rules.test.js',
    edits: [edit(STARTS, 'cursor !== null && addedVersion <= cursor.subscriptions', 'cursor !== null')],
  },
  {
    name: 'since-is-now',
    rule: 'A subscription stores the last sequence of the log at its creation.',
    edits: [edit(STARTS, 'after.set(subject, since > log.last ? 0 : since);', 'after.set(subject, log.last);')],
  },
  {
    name: 'topic-added-during-catch-up',
    rule: 'A topic that is added during catch-up is caught up too before the topics go live.',
    test: 'unit/transport/group-rules.test.js',
    edits: [edit(GROUPS, 'if (!catchUp.mustRefresh) {', 'if (!catchUp.mustRefresh || catchUp) {')],
  },
  {
    name: 'notice-before-welcome-is-lost',
    rule: 'A change notice during a handshake is processed after WELCOME.',
    test: 'unit/transport/groups-refresh.test.js',
    edits: [
      edit(
        GROUPS,
        'if (this.refreshAfterWelcome.delete(session))',
        'if (this.refreshAfterWelcome.delete(session) && !session)',
      ),
    ],
  },
  {
    name: 'notice-during-a-look-is-lost',
    rule: 'A change notice during the read for an earlier notice makes the worker read again.',
    test: 'unit/transport/groups-refresh.test.js',
    edits: [edit(GROUPS, '        if (catchUp.mustRefresh)\n            this.refresh(session);', '')],
  },
  {
    name: 'slow-subscriber-is-skipped',
    rule: 'A subscriber that is too slow for a group message is closed, never skipped.',
    test: 'integration/transport/slow-subscriber.test.js',
    edits: [edit('transport/socket/listener', 'closeOnBackpressureLimit: 1', 'closeOnBackpressureLimit: 0')],
  },
  {
    name: 'places-kept-by-the-deaf',
    rule: 'A device that does not read its backlog occupies no slot of the catch-up.',
    test: 'unit/transport/groups-places.test.js',
    edits: [edit(GROUPS, 'await this.limiter.aside(() => this.untilDrained(', 'await (this.untilDrained(')],
  },
  {
    name: 'deaf-devices-stay',
    rule: 'A device that reads nothing of its backlog is closed.',
    test: 'unit/transport/groups-places.test.js',
    edits: [edit(GROUPS, 'this.parts.closeTooSlow(session)', 'session')],
  },
  {
    name: 'expired-is-no-progress',
    rule: 'The tail advances with every record, expired ones included.',
    test: 'unit/transport/groups-places.test.js',
    edits: [
      edit(
        LOG,
        '        this.options.onProgress();',
        '        if (this.recentOf.length < 0) this.options.onProgress();',
      ),
    ],
  },
  {
    name: 'catch-up-from-a-replica',
    rule: 'If a replica does not find a record, the leader is asked.',
    test: 'unit/transport/group-rules.test.js',
    edits: [edit(LOG, 'next(subject, from, { authoritative: true })', 'next(subject, from)')],
  },
  {
    name: 'cursor-not-kept',
    rule: 'The device stores the cursor of CAUGHT_UP.',
    edits: [
      edit(
        'device/connection/intake',
        `this.turns.change({ kind: 'cursor', cursor: caughtUpCursor(ours, cursor) });`,
        `this.turns.change({ kind: 'cursor', cursor: { ...cursor, sequence: cursor.sequence + 1 } });`,
      ),
    ],
  },
  {
    name: 'no-de-duplication-of-groups',
    rule: 'The device drops duplicates of group messages by message id too.',
    test: 'device/duplicates.test.js',
    edits: [edit('device/connection/intake', '!target || this.state.hasSeen(frame.id)', '!target')],
  },
]
