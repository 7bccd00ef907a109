/** How an instance stands, as its admin port shows it. */
import type { Levels } from '../metrics.js'
import type { ChildState } from './worker-child.js'

export type InstanceState = 'serving' | 'draining'

export interface WorkerStatus {
  index: number
  pid: number
  state: ChildState
  startedAtMs: number
  /** How often a worker of this place ended unasked. */
  crashed: number
  /** Null: it did not answer. While it drains, `sessions` is how many have still to go. */
  levels: Levels | null
}

export interface RestartProgress {
  state: 'running' | 'done' | 'failed'
  /** Workers replaced, and to be replaced. */
  done: number
  total: number
  startedAtMs: number
  /** 0: not yet. */
  endedAtMs: number
  /** Why it failed. */
  reason: string
}

export interface InstanceStatus {
  instance: string
  port: number
  state: InstanceState
  /** What /readyz says. */
  ready: boolean
  /** Those that leave are among them. */
  workers: WorkerStatus[]
  /** The last rolling restart; null: none since the start. */
  restart: RestartProgress | null
}
