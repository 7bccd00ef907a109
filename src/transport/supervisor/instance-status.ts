/** The state of a transport instance as its admin port shows it. */
import type { Levels } from '../metrics.js'
import type { ChildState } from './worker-child.js'

export type InstanceState = 'serving' | 'draining'

export interface WorkerStatus {
  index: number
  pid: number
  state: ChildState
  startedAtMs: number
  /** How many workers with this index have crashed. */
  crashed: number
  /** Null if the worker did not answer. In a drain `sessions` is the number of devices that have not left yet. */
  levels: Levels | null
}

export interface RestartProgress {
  state: 'running' | 'done' | 'failed'
  /** The number of workers that were replaced. */
  done: number
  /** The number of workers to replace. */
  total: number
  startedAtMs: number
  /** 0 while it runs. */
  endedAtMs: number
  /** Why the restart failed; empty if it did not. */
  reason: string
}

export interface InstanceStatus {
  instance: string
  port: number
  state: InstanceState
  /** The answer of /readyz. */
  ready: boolean
  /** All worker processes, with those that leave. */
  workers: WorkerStatus[]
  /** The last rolling restart; null if there was none since the start. */
  restart: RestartProgress | null
}
