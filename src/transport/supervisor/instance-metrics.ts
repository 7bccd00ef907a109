/** The metrics of an instance: the sums of all its workers, and the supervisor's own. */
import { MergedMetrics, snapshotOf } from '../../observe/merge.js'
import { PlainMetrics } from '../../observe/plain-metrics.js'
import { emptyMetrics } from '../../observe/registry.js'
import type { WorkerChild } from './worker-child.js'

/** The part of a supervisor that its metrics need. */
export interface WatchedInstance {
  readonly isReady: boolean
  readonly crashes: number
  children(): WorkerChild[]
}

export class InstanceMetrics {
  private readonly merged = new MergedMetrics()
  /** The metrics of the supervisor. */
  readonly own = emptyMetrics('transport')
  private watched: WatchedInstance | null = null

  /** Called once the workers are ready. Before, a scrape is almost empty. */
  watch(watched: WatchedInstance): void {
    this.watched = watched
    const plain = new PlainMetrics(this.own, 'borealis_transport_')
    plain.level('ready', '1: the instance accepts new devices.', () => Number(watched.isReady))
    plain.levels('workers', 'Worker processes by state.', 'state', async () => {
      const states = watched.children().map(({ state }) => state)
      return ['starting', 'ready', 'draining'].map(
        (state) => [state, states.filter((s) => s === state).length] as const,
      )
    })
    plain.count('worker_crashes_total', 'Workers that crashed.', () => watched.crashes)
  }

  /** The worker has ended; its last counts stay in the sums. */
  ended({ lastSnapshot }: WorkerChild): void {
    if (lastSnapshot) this.merged.addEnded(lastSnapshot)
  }

  /** The text of a scrape. A worker that does not answer in time is included with its previous snapshot. */
  async metrics(): Promise<string> {
    const children = this.watched?.children() ?? []
    await Promise.allSettled(children.filter(({ state }) => state !== 'starting').map((child) => child.ask('metrics')))
    const own = await snapshotOf(this.own)
    // A worker that ended meanwhile is in the sums of `merged` already.
    const running = children.flatMap(({ state, lastSnapshot }) =>
      state !== 'ended' && lastSnapshot ? [lastSnapshot] : [],
    )
    return this.merged.text([...running, own])
  }
}
