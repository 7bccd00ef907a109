/** Mutations of the device library. */
import { edit, type Mutation } from './mutation.js'

const INTAKE = 'device/connection/intake'
const CONNECTION = 'device/connection/connection'

export const deviceMutations: Mutation[] = [
  {
    name: 'cursor-dropped-at-a-reset',
    rule: 'A device tells its old cursor until CAUGHT_UP has brought one of the new log.',
    test: 'device/handover.test.js',
    edits: [
      edit(
        INTAKE,
        `            this.isCursorForeign = true;`,
        `            this.turns.change({ kind: 'cursor', cursor: null });`,
      ),
    ],
  },
  {
    name: 'expiry-by-the-clock-of-the-device',
    rule: "A device judges expiry by the server's time since WELCOME, whatever its own clock says.",
    test: 'device/handover.test.js',
    edits: [edit('device/client', 'if (serverTime)', 'if (false)')],
  },
  {
    name: 'left-expired-before-welcome',
    rule: 'What seems expired at a start waits for the time of the server.',
    test: 'device/handover.test.js',
    edits: [edit('device/client', 'new Set(this.doubtful)', 'new Set()')],
  },
  {
    name: 'no-de-duplication',
    rule: 'The device drops duplicates by message id.',
    edits: [
      edit(
        INTAKE,
        `        if (this.state.hasSeen(frame.id))
            return;
        const { registration }`,
        `        const { registration }`,
      ),
    ],
  },
  {
    name: 'seen-forgotten-after-hand-over',
    rule: 'The device remembers the ids of messages across restarts.',
    edits: [edit('device/state/state', '        this.seen.set(id, forgetAtMs);', '')],
  },
  {
    name: 'duplicate-not-acknowledged',
    rule: 'A device acknowledges duplicates too.',
    edits: [
      edit(
        INTAKE,
        `        this.turns.acknowledge(frame.id);
        if (this.state.hasSeen(frame.id))
            return;`,
        `        if (this.state.hasSeen(frame.id))
            return;
        this.turns.acknowledge(frame.id);`,
      ),
    ],
  },
  {
    name: 'acknowledged-before-durable',
    rule: 'The device persists a message, then acknowledges it.',
    edits: [edit(CONNECTION, `case 'NOTIFY':`, `case 'NOTIFY': this.send(now, { type: 'ACK', ids: [frame.id] });`)],
  },
  {
    name: 'possible-duplicate-not-told',
    rule: 'A message that the device may have handed over before a crash is marked.',
    edits: [edit('device/client', 'this.handover.add(notification, true)', 'this.handover.add(notification, false)')],
  },
  {
    name: 'number-not-raised',
    rule: 'The device raises its connection number before every HELLO.',
    edits: [
      edit(
        CONNECTION,
        `connection: this.deviceState.connection,
            client`,
        `connection: 1,
            client`,
      ),
    ],
  },
  {
    name: 'requests-put-the-ping-off',
    rule: 'The device sends a PING after silence of either side.',
    test: 'device/keepalive.test.js',
    edits: [edit('device/connection/keepalive', 'Math.min(this.sentAtMs, this.heardAtMs)', 'this.sentAtMs')],
  },
]
