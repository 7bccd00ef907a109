/** The counters of a worker. They are plain numbers, because the hot path increments them; a scrape reads them. */
import type { CloseName } from '../../protocol/close-codes.js'
import { Report, type ReportCode } from '../../protocol/envelope.js'
import { countUp, PlainMetrics } from '../observe/plain-metrics.js'
import type { MetricsRegistry } from '../observe/registry.js'

/** The reason to refuse a connection before its upgrade. */
export type RefusalReason = 'draining' | 'full' | 'address' | 'crowd' | 'rate' | 'lag' | 'distrusted'

const reportNames = new Map<number, string>(Object.entries(Report).map(([name, code]) => [code, name.toLowerCase()]))

export class WorkerMetrics {
  /** NOTIFY frames sent. */
  notified = 0
  /** Group messages sent, one for each subscriber. */
  notifiedGroup = 0
  /** GAP frames sent. */
  gaps = 0
  /** Bytes of WebSocket messages. */
  bytesReceived = 0
  bytesSent = 0
  /** Reports sent to routers, by code. */
  readonly reports: number[] = [...reportNames].map(() => 0)
  /** Confirmed settlements. */
  settled = 0
  /** Settlements without room; their messages are delivered again. */
  settlesRefused = 0
  /** Sessions that an audit found without their record in the table. */
  auditRepairs = 0
  /** How often the connection to NATS was lost. */
  natsLosses = 0
  /** How often the lease lapsed: routers may have taken this worker for dead. */
  leaseLapses = 0
  readonly closes = new Map<CloseName | 'network', number>()
  /** Connections refused before their upgrade. */
  readonly refusals = new Map<RefusalReason, number>()
  /** HELLOs by their result: `welcomed`, or the reason of the close. */
  readonly handshakes = new Map<CloseName | 'welcomed', number>()

  refused(reason: RefusalReason): void {
    countUp(this.refusals, reason)
  }

  closed(reason: CloseName | 'network'): void {
    countUp(this.closes, reason)
  }

  get welcomed(): number {
    return this.handshakes.get('welcomed') ?? 0
  }

  handshake(result: CloseName | 'welcomed'): void {
    countUp(this.handshakes, result)
  }

  report(code: ReportCode): void {
    this.reports[code] = (this.reports[code] ?? 0) + 1
  }
}

export interface Levels {
  connections: number
  sessions: number
  /** NOTIFY frames without an acknowledgement. */
  inFlight: number
  /** Settlements that the core has not confirmed. */
  unsettled: number
  natsConnected: boolean
  /** False after a lapse: routers may take the worker for dead. */
  leaseHeld: boolean
}

export function registerWorkerMetrics(metrics: WorkerMetrics, levels: () => Levels, registry: MetricsRegistry): void {
  const plain = new PlainMetrics(registry, 'borealis_transport_')
  plain.level('connections', 'Open WebSocket connections.', () => levels().connections)
  plain.level('sessions', 'Devices with a session.', () => levels().sessions)
  plain.level('in_flight', 'NOTIFY frames without an acknowledgement.', () => levels().inFlight)
  plain.level(
    'unsettled',
    'Acknowledgements of queued messages that the core has not confirmed.',
    () => levels().unsettled,
  )
  plain.level('nats_connected', 'Workers that are connected to NATS.', () => Number(levels().natsConnected))
  plain.level('leases_held', 'Workers whose lease has not lapsed.', () => Number(levels().leaseHeld))
  plain.counts('handshakes_total', 'HELLOs by their result.', 'outcome', () => metrics.handshakes)
  plain.counts('refusals_total', 'Connections refused before their upgrade.', 'reason', () => metrics.refusals)
  plain.counts(
    'closes_total',
    'Connections closed. too_slow means that the device did not read.',
    'reason',
    () => metrics.closes,
  )
  plain.count('notified_total', 'NOTIFY frames sent.', () => metrics.notified)
  plain.count('notified_group_total', 'Group messages sent, one for each subscriber.', () => metrics.notifiedGroup)
  plain.counts('delivery_reports_total', 'Reports of delivery attempts to routers, by result.', 'report', () =>
    metrics.reports.map((count, code) => [reportNames.get(code) ?? String(code), count] as const),
  )
  plain.count('settled_total', 'Acknowledgements of queued messages that the core settled.', () => metrics.settled)
  plain.count(
    'settles_refused_total',
    'Acknowledgements of queued messages that found no room; the messages are delivered again.',
    () => metrics.settlesRefused,
  )
  plain.count('gaps_total', 'GAP frames sent: messages will not reach the device.', () => metrics.gaps)
  plain.count('received_bytes_total', 'Bytes of WebSocket messages from devices.', () => metrics.bytesReceived)
  plain.count('sent_bytes_total', 'Bytes of WebSocket messages to devices.', () => metrics.bytesSent)
  plain.count(
    'audit_repairs_total',
    'Sessions that an audit found without their record in the table.',
    () => metrics.auditRepairs,
  )
  plain.count('nats_losses_total', 'Lost connections to NATS.', () => metrics.natsLosses)
  plain.count(
    'lease_lapses_total',
    'Leases that lapsed: routers may have taken the worker for dead.',
    () => metrics.leaseLapses,
  )
}
