/** The scrape of an instance: what all its workers count, and what only the supervisor knows. */
import { MergedMetrics, snapshotOf } from '../../observe/merge.js'
import { PlainMetrics } from '../../observe/plain-metrics.js'
import { emptyMetrics } from '../../observe/registry.js'
import type { WorkerChild } from './worker-child.js'

export interface Watched {
  readonly isReady: boolean
  /** How often workers ended unasked. */
  readonly crashes: number
  children(): WorkerChild[]
}

export class InstanceMetrics {
  private readonly merged = new MergedMetrics()
  /** What no worker knows. */
  readonly own = emptyMetrics('transport')
  private watched: Watched | null = null

  /** Before the workers are ready there is nothing to tell. */
  watch(watched: Watched): void {
    this.watched = watched
    const plain = new PlainMetrics(this.own, 'borealis_transport_')
    plain.level('ready', '1: new devices are welcome.', () => Number(watched.isReady))
    plain.levels('workers', 'Worker processes, by what they do.', 'state', async () => {
      const states = watched.children().map(({ state }) => state)
      return ['starting', 'ready', 'draining'].map(
        (state) => [state, states.filter((s) => s === state).length] as const,
      )
    })
    plain.count('worker_crashes_total', 'Workers that ended unasked.', () => watched.crashes)
  }

  /** What it said last goes on counting. */
  ended({ lastSnapshot }: WorkerChild): void {
    if (lastSnapshot) this.merged.addEnded(lastSnapshot)
  }

  /** The text of a scrape. A worker that does not answer in time counts as it did at the last one. */
  async metrics(): Promise<string> {
    const children = this.watched?.children() ?? []
    await Promise.allSettled(children.filter(({ state }) => state !== 'starting').map((child) => child.ask('metrics')))
    const own = await snapshotOf(this.own)
    // Not those that ended meanwhile: they are among what has ended.
    const running = children.flatMap(({ state, lastSnapshot }) =>
      state !== 'ended' && lastSnapshot ? [lastSnapshot] : [],
    )
    return this.merged.text([...running, own])
  }
}
