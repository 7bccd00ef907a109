/**
 * What is owed: every message that was accepted, until each of its targets has ended. The ends are read from EVENTS as the
 * server stores them, by a reader of our own, so that a fault of the product's reader shows. A message whose targets have all
 * ended is judged and forgotten, so that a year fits into memory.
 */
import { unpack } from 'msgpackr'
import { eventsStream } from '../../protocol/subjects.js'
import type { VirtualClock } from '../sim/clock.js'
import type { SimServer } from '../sim/server.js'
import type { YearDevice } from './device.js'

export interface Message {
  /** Its number in this run. */
  n: number
  project: string
  /** The registrations that were addressed, each with its number on the device; of a group message none. */
  targets: { device: YearDevice; number: number; registrationId: string }[]
  /** Devices that were in the group when it was sent. */
  members: YearDevice[]
  group: string | null
  ttlMs: number
  calledAtMs: number
  /** When it goes out. */
  dueAtMs: number
  collapses: boolean
  isCancelled: boolean
  /** Whether processes were restarted, or keys changed, around the time when it went out. */
  isDisturbed(): boolean
}

interface End {
  id: string
  kind: string
  reason: string
  device: string
  atMs: number
}

/** Targets of one message, as EVENTS has them. */
interface Family {
  accepted: number
  ends: End[]
  lastAtMs: number
}

export type LedgerCheck = 'lost' | 'ends' | 'clocks'

/** Later than its life says by so much, an end is missing. */
const LATE_MS = 2 * 86_400_000
/** An end that is so much too early is the doing of a wrong clock. */
const EARLY_MS = 2_000
/** A device that has been connected for so long gets a message at once. */
const SURE_MS = 10_000
/** A message with a shorter life may end within a restart. */
const SHORT_MS = 120_000
const ORPHAN_MS = 86_400_000

export class Ledger {
  /** Targets of messages that were judged. */
  judged = 0
  accepted = 0
  readonly ended = new Map<string, Map<string, number>>()
  readonly acceptedOf = new Map<string, number>()
  private readonly messages = new Map<string, Message>()
  private readonly families = new Map<string, Family>()
  /** Of targets that have not ended: their message. */
  private readonly open = new Map<string, string>()
  private readonly closed = new Set<bigint>()
  private readonly groups: { id: bigint; message: Message }[] = []
  private readonly read: number[]

  constructor(
    private readonly clock: VirtualClock,
    private readonly server: SimServer,
    split: number,
    private readonly wrong: (check: LedgerCheck, what: string) => void,
    private readonly deviceOf: (name: string) => YearDevice | undefined,
  ) {
    this.read = Array.from({ length: split }, () => 1)
    for (let i = 0; i < split; i++) {
      const stream = server.stream(eventsStream(i))
      server.follow(stream, { stored: () => this.harvest(i) })
    }
  }

  get isEmpty(): boolean {
    return this.messages.size === 0 && this.open.size === 0 && this.groups.length === 0
  }

  /** Whether a target of the message has not ended. */
  isOpen(id: string): boolean {
    return this.messages.has(id)
  }

  /** The service promised it. `id`: of the message. */
  promised(id: string, message: Message): void {
    this.accepted += message.targets.length
    if (message.group !== null) {
      this.groups.push({ id: BigInt(id), message })
      return
    }
    this.messages.set(id, message)
    this.judgeIfDone(id)
  }

  /** Called once a day: what should have ended long ago, and groups whose time is over. */
  overdue(): void {
    const now = this.clock.now()
    for (const [id, message] of this.messages) {
      if (now < message.dueAtMs + message.ttlMs + LATE_MS) continue
      this.missing(id, message, 'did not end')
    }
    const over = this.groups.filter(({ message }) => now >= message.dueAtMs + message.ttlMs)
    for (const one of over) this.judgeGroup(one.id, one.message)
    this.groups.splice(0, this.groups.length, ...this.groups.filter((one) => !over.includes(one)))
    for (const [id, family] of this.families) {
      // Nobody was told that it was accepted: it ends all the same.
      const isOrphan = !this.messages.has(id) && now - family.lastAtMs > ORPHAN_MS
      if (isOrphan && family.ends.length === family.accepted) this.families.delete(id)
    }
  }

  /** At the end of the year: everything that is still open is lost. */
  conclude(): void {
    for (const [id, message] of this.messages) this.missing(id, message, 'has no end')
    for (const [id, parent] of this.open) {
      this.wrong('lost', `target ${id} of ${parent}, which nobody was promised, has no end`)
    }
    for (const { id, message } of this.groups.splice(0)) this.judgeGroup(id, message)
  }

  private missing(id: string, message: Message, what: string): void {
    const ended = new Set(this.families.get(id)?.ends.map(({ device }) => device))
    const left = message.targets.filter(({ device }) => !ended.has(device.name)).map(({ device }) => device.label)
    this.wrong('lost', `m${message.n} (${id}) ${what} for ${left.join(', ')}`)
    this.messages.delete(id)
    this.families.delete(id)
    for (const [target, parent] of this.open) if (parent === id) this.open.delete(target)
  }

  private harvest(index: number): void {
    const stream = this.server.stream(eventsStream(index))
    for (let sequence = this.read[index] ?? 1; sequence <= stream.lastSequence; sequence++) {
      const record = stream.at(sequence)
      // History that gives way appends again what has not ended.
      if (record && record.headers?.Moved === undefined) this.take(record.subject, record.body)
      this.read[index] = sequence + 1
    }
  }

  /** Fields as src/store/events.ts writes them. */
  private take(subject: string, body: Uint8Array): void {
    const [, , id = '', kind] = subject.split('.')
    if (kind === 'accepted') {
      const [, parent, project] = unpack(body) as unknown[]
      this.isAccepted(id, String(parent), String(project))
    } else if (kind === 'final') {
      const [, end, , project, , device, reason] = unpack(body) as unknown[]
      const details = { kind: String(end), reason: String(reason), device: String(device), atMs: this.clock.now() }
      this.hasEnded({ id, ...details }, String(project))
    }
  }

  private isAccepted(id: string, parent: string, project: string): void {
    if (this.open.has(id) || this.closed.has(BigInt(id))) {
      this.wrong('ends', `target ${id} was accepted twice`)
      return
    }
    this.open.set(id, parent)
    this.acceptedOf.set(project, (this.acceptedOf.get(project) ?? 0) + 1)
    const family = this.families.get(parent) ?? { accepted: 0, ends: [], lastAtMs: 0 }
    family.accepted++
    family.lastAtMs = this.clock.now()
    this.families.set(parent, family)
  }

  private hasEnded(end: End, project: string): void {
    const parent = this.open.get(end.id)
    const family = parent === undefined ? undefined : this.families.get(parent)
    if (parent === undefined || !family) {
      const why = this.closed.has(BigInt(end.id)) ? 'ended twice' : 'ended and was never accepted'
      this.wrong('ends', `target ${end.id} ${why}: ${end.kind}`)
      return
    }
    this.open.delete(end.id)
    this.closed.add(BigInt(end.id))
    const ofProject = this.ended.get(project) ?? new Map<string, number>()
    ofProject.set(end.kind, (ofProject.get(end.kind) ?? 0) + 1)
    this.ended.set(project, ofProject)
    family.ends.push(end)
    family.lastAtMs = this.clock.now()
    const device = this.deviceOf(end.device)
    if (end.kind === 'delivered' && device && !device.received.has(BigInt(end.id))) {
      this.wrong('lost', `target ${end.id} is delivered, and ${device.label} never had it`)
    }
    this.judgeIfDone(parent)
  }

  private judgeIfDone(id: string): void {
    const message = this.messages.get(id)
    const family = this.families.get(id)
    if (!message || !family || family.ends.length < message.targets.length) return
    for (const end of family.ends) this.judge(message, end)
    this.judged += family.ends.length
    this.messages.delete(id)
    this.families.delete(id)
  }

  /** Every end but `delivered` has to have its reason in what happened. */
  private judge(message: Message, end: End): void {
    const target = message.targets.find(({ device }) => device.name === end.device)
    const name = `m${message.n} to ${target?.device.label ?? end.device}`
    if (!target) {
      this.wrong('ends', `${name} was not sent there`)
      return
    }
    const { device, number } = target
    const says = `${name}: ${end.kind} ${end.reason}`
    switch (end.kind) {
      case 'delivered':
        return
      case 'expired': {
        const earlyMs = message.dueAtMs + message.ttlMs - end.atMs
        if (earlyMs > EARLY_MS) this.wrong('clocks', `${says}, ${Math.round(earlyMs / 1000)} s before its time`)
        if (!device.isRevoked && this.wasReachable(message, device)) {
          this.wrong('lost', `${says}, and the device was connected`)
        }
        return
      }
      case 'collapsed':
        if (!message.collapses) this.wrong('lost', `${says}, without a collapse key`)
        return
      case 'cancelled':
        if (!message.isCancelled) this.wrong('lost', `${says}, and nobody asked for it`)
        return
      case 'dropped':
        if (!device.isOverflowed) this.wrong('lost', `${says}, and its queue was not full`)
        return
      default: {
        const hasEnded = device.isRevoked || device.apps.some(({ ended }) => ended.has(number))
        if (!hasEnded) this.wrong('lost', `${says}, and its registration had not ended`)
      }
    }
  }

  /** Whether the device was connected for long enough in the life of the message to get it. */
  private wasReachable({ dueAtMs, ttlMs, isDisturbed }: Message, { session }: YearDevice): boolean {
    // In a restart, a message that lives for seconds may find nobody to bring it.
    if (ttlMs < SHORT_MS && isDisturbed()) return false
    const isStill = session.untilMs === Number.POSITIVE_INFINITY
    if (ttlMs === 0) return isStill && session.sinceMs + SURE_MS <= dueAtMs
    if (session.sinceMs <= dueAtMs) return isStill
    const awakeMs = Math.min(session.untilAwakeMs, this.clock.awakeMs()) - session.sinceAwakeMs
    return Math.min(awakeMs, dueAtMs + ttlMs - session.sinceMs) > SURE_MS
  }

  /** A member that was connected at some time in its life has seen it, or was told of a gap. */
  private judgeGroup(id: bigint, message: Message): void {
    for (const device of message.members) {
      if (device.received.has(id) || device.isRevoked) continue
      const fromMs = Math.max(device.session.sinceMs, message.dueAtMs)
      const untilMs = Math.min(device.session.untilMs, this.clock.now(), message.dueAtMs + message.ttlMs)
      const wasThere = untilMs - fromMs > SURE_MS
      const wasTold = device.gaps.some(({ reason, atMs }) => reason !== 'queue_overflow' && atMs >= message.calledAtMs)
      if (!wasThere || wasTold) continue
      const seconds = (ms: number) => `${((ms - message.calledAtMs) / 1000).toFixed(1)} s`
      const { session } = device
      const joined = device.apps.flatMap(({ topics }) => [...topics.entries()])
      const topics = joined.map(([topic, atMs]) => `${topic} ${seconds(atMs)}`).join(', ')
      const when = `relative to the send: live from ${seconds(session.sinceMs)} to ${seconds(session.untilMs)}, in ${topics}`
      this.wrong('lost', `m${message.n} to ${message.group} never reached ${device.label} (${when})`)
    }
    this.judged += message.members.length
  }
}
