/**
 * The identity of a stream's log: another number means that sequence numbers may mean other records than before.
 *
 * It is the time of creation. The server keeps that time when a stream is restored from a snapshot, although the log then
 * ends earlier than it did; so a restore writes its own time into the description of the stream.
 */
const RESTORED = 'restored at '

export const restoredDescription = (restoredAtMs: number) => `${RESTORED}${restoredAtMs}`

/** Unix milliseconds. */
export function incarnationOf(info: { created: string; config?: { description?: string } }): number {
  const description = info.config?.description ?? ''
  return description.startsWith(RESTORED) ? Number(description.slice(RESTORED.length)) : Date.parse(info.created)
}
