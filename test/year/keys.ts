/** The keyring of the year, as its operator has it, and the steps of a rotation: add, activate, retire. */
import { KEY_KINDS, type KeyKind, Keyring } from '../../src/keyring.js'

const DAY_MS = 86_400_000

export class Keys {
  private readonly master: Keyring
  private readonly added = new Map<KeyKind, string>()
  retired = 0

  constructor(nowMs: number) {
    this.master = Keyring.generate(nowMs)
  }

  /** As a process reads it now. */
  read(): Keyring {
    return Keyring.parse(this.master.serialize())
  }

  /** The new keys verify once every process has read them, and sign nothing yet. */
  add(nowMs: number): void {
    for (const kind of KEY_KINDS) this.added.set(kind, this.master.add(kind, nowMs))
  }

  activate(nowMs: number): void {
    for (const [kind, kid] of this.added) this.master.activate(kind, kid, nowMs)
    this.added.clear()
  }

  /** `lifeMs`: how long a thing may be good that a key of the kind made, after another key took its place. */
  retire(lifeMs: Record<KeyKind, number>, nowMs: number): void {
    for (const kind of KEY_KINDS) {
      for (const { kid, state, replacedAtMs } of this.master.keys(kind)) {
        const isOver = state === 'replaced' && (replacedAtMs ?? nowMs) + lifeMs[kind] + DAY_MS < nowMs
        if (!isOver) continue
        this.master.retire(kind, kid)
        this.retired++
      }
    }
  }

  count(kind: KeyKind): number {
    return this.master.keys(kind).length
  }
}
