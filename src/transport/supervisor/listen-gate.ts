/**
 * Which workers listen while a rolling restart goes on. All share one port, and the kernel gives each new connection to any
 * of those that listen. A device that lands on a worker which is still to be replaced moves again; one that lands on a new
 * worker which has its share already leaves the next one empty. So only new workers with room listen. Pure.
 */

export interface ListenCandidate {
  /** RunningParts by this restart. */
  isNew: boolean
  /** Devices that it has. */
  sessions: number
}

/** For each worker that can take devices, whether it is to listen. `share`: how many devices each is to have. */
export function workersToListen(workers: readonly ListenCandidate[], share: number): boolean[] {
  const hasRoom = ({ isNew, sessions }: ListenCandidate) => isNew && sessions < share
  // Somebody listens in any case.
  if (workers.some(hasRoom)) return workers.map(hasRoom)
  if (workers.some(({ isNew }) => isNew)) return workers.map(({ isNew }) => isNew)
  return workers.map(() => true)
}
