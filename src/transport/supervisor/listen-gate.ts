/**
 * Decides which workers listen during a rolling restart.
 *
 * All workers share one port, and the kernel gives a new connection to any worker that listens. A device on a worker
 * that is still to be replaced would have to move twice. A device on a new worker that has its share of the devices
 * would be missing at the next new worker. So only new workers with room listen. Pure.
 */

export interface ListenCandidate {
  /** This restart has started the worker. */
  isNew: boolean
  /** The number of its devices. */
  sessions: number
}

/**
 * Returns for each worker whether it has to listen. At least one of them does.
 * @param share the number of devices that each worker should have in the end.
 */
export function workersToListen(workers: readonly ListenCandidate[], share: number): boolean[] {
  const hasRoom = ({ isNew, sessions }: ListenCandidate) => isNew && sessions < share
  if (workers.some(hasRoom)) return workers.map(hasRoom)
  if (workers.some(({ isNew }) => isNew)) return workers.map(({ isNew }) => isNew)
  return workers.map(() => true)
}
