/** What a worker counts: plain numbers on the hot path, read by the metrics when somebody asks. */
import { Counter, Gauge } from 'prom-client'
import type { CloseName } from '../../protocol/close-codes.js'
import type { MetricsRegistry } from '../observe/metrics.js'
import type { RefusalReason } from './admission.js'

export class Figures {
  /** NOTIFY frames sent. */
  notified = 0
  /** Group messages sent, one for each subscriber. */
  notifiedGroup = 0
  /** Outcomes told to routers. */
  outcomes = 0
  /** Settlements confirmed. */
  settled = 0
  /** Settlements refused for want of room; their messages are delivered again. */
  settlesRefused = 0
  /** HELLOs believed. */
  handshakes = 0
  /** Sessions that an audit found without their record, or with another's. */
  auditRepairs = 0
  readonly closes = new Map<CloseName | 'network', number>()
  /** Connections refused before their upgrade. */
  readonly refusals = new Map<RefusalReason, number>()

  refused(reason: RefusalReason): void {
    this.refusals.set(reason, (this.refusals.get(reason) ?? 0) + 1)
  }

  closed(reason: CloseName | 'network'): void {
    this.closes.set(reason, (this.closes.get(reason) ?? 0) + 1)
  }
}

export interface Levels {
  connections: number
  sessions: number
  unsettled: number
}

export function registerFigures(figures: Figures, levels: () => Levels, registry: MetricsRegistry): void {
  const registers = [registry]
  const count = (name: string, help: string, read: () => number) => {
    const counter = new Counter({
      name: `borealis_transport_${name}`,
      help,
      registers,
      collect() {
        this.reset()
        this.inc(read())
      },
    })
    return counter
  }
  const level = (name: string, help: string, read: () => number) =>
    new Gauge({
      name: `borealis_transport_${name}`,
      help,
      registers,
      collect() {
        this.set(read())
      },
    })
  level('connections', 'Open WebSocket connections.', () => levels().connections)
  level('sessions', 'Devices with a session.', () => levels().sessions)
  level('unsettled', 'Outcomes of parked messages without confirmation.', () => levels().unsettled)
  count('notified_total', 'NOTIFY frames sent.', () => figures.notified)
  count('notified_group_total', 'Group messages sent, one for each subscriber.', () => figures.notifiedGroup)
  count('outcomes_total', 'Outcomes told to routers.', () => figures.outcomes)
  count('settled_total', 'Outcomes of parked messages confirmed.', () => figures.settled)
  count('settles_refused_total', 'Outcomes of parked messages without room.', () => figures.settlesRefused)
  new Counter({
    name: 'borealis_transport_refusals_total',
    help: 'Connections refused before their upgrade, by reason.',
    labelNames: ['reason'],
    registers,
    collect() {
      this.reset()
      for (const [reason, refusals] of figures.refusals) this.inc({ reason }, refusals)
    },
  })
  count('handshakes_total', 'HELLOs believed.', () => figures.handshakes)
  count('audit_repairs_total', 'Sessions that an audit found not as they should be.', () => figures.auditRepairs)
  new Counter({
    name: 'borealis_transport_closes_total',
    help: 'Connections closed, by reason.',
    labelNames: ['reason'],
    registers,
    collect() {
      this.reset()
      for (const [reason, closes] of figures.closes) this.inc({ reason }, closes)
    },
  })
}
