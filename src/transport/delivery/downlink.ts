/** The messages of the core to this worker: batches of frames for devices, and control requests. */
import {
  type ControlReply,
  type ControlRequest,
  decodeControlRequest,
  decodeTxBatch,
  encodeControlReply,
} from '../../../protocol/envelope.js'
import { controlSubject, txSubject } from '../../../protocol/subjects.js'
import type { Bus, BusMessage, Subscription } from '../../nats/broker.js'
import type { Groups } from '../groups/groups.js'
import type { Registry } from '../session/registry.js'
import type { Tombstones } from '../session/tombstones.js'
import type { Turns } from '../turns.js'
import type { Effects } from './effects.js'

export interface DownlinkParts {
  bus: Bus
  turns: Turns
  registry: Registry
  effects: Effects
  groups: Groups
  tombstones: Tombstones
}

export class Downlink {
  private subscriptions: Subscription[] = []

  constructor(
    private readonly parts: DownlinkParts,
    private readonly owner: { instance: string; worker: string },
  ) {}

  start(): void {
    const { bus, turns } = this.parts
    const { instance, worker } = this.owner
    this.subscriptions = [
      bus.subscribe(txSubject(instance, worker), ({ body }) => turns.run('tx batch', () => this.deliver(body))),
      bus.subscribe(controlSubject(instance, worker), (message) => turns.run('control', () => this.control(message))),
    ]
  }

  stop(): void {
    for (const subscription of this.subscriptions.splice(0)) subscription.unsubscribe()
  }

  private deliver(body: Uint8Array): void {
    const { registry, effects, turns } = this.parts
    const { router, atMs, items } = decodeTxBatch(body)
    const { now } = turns
    // Only with a router of the version before this one, the clocks have to agree.
    const sentAtMs = atMs ?? now.ms
    for (const item of items) {
      const session = registry.get(item.device)
      if (session) session.deliver(item, now.steadyMs + (item.expiresAtMs - sentAtMs), router, now)
      else effects.reportNotHere(router, item.id, item.device)
    }
  }

  private control({ body, reply }: BusMessage): void {
    const answer = this.execute(decodeControlRequest(body))
    if (reply) this.parts.bus.publish(reply, encodeControlReply(answer))
  }

  private execute(request: ControlRequest): ControlReply {
    const { registry, effects, groups, tombstones, turns } = this.parts
    const session = registry.get(request.device)
    if (request.kind === 'close') tombstones.dropBelow(request.device, request.belowConnection)
    if (!session) return 'not_here'
    switch (request.kind) {
      case 'catch_up':
        session.catchUp(turns.now)
        return 'here'
      case 'refresh':
        groups.refresh(session)
        return 'here'
      case 'close':
        if (session.connection >= request.belowConnection) return 'here'
        effects.close(session, request.reason)
        return 'not_here'
    }
  }
}
