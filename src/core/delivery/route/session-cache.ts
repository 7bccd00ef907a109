/**
 * The sessions of recently used devices, as one router remembers them: bounded, least recently used evicted first, never
 * watched (ADR 9).
 *
 * A stale entry costs a detour and never a message: its worker answers "not here", and the enqueue looks the session up.
 */
import { evictOldest, setNewest } from '../../../collections.js'
import type { SessionEntry } from '../../../store/sessions.js'

export class SessionCache {
  private readonly entries = new Map<string, SessionEntry>()

  constructor(private readonly entriesMax: number) {}

  get(device: string): SessionEntry | undefined {
    const entry = this.entries.get(device)
    if (entry) setNewest(this.entries, device, entry)
    return entry
  }

  remember(device: string, entry: SessionEntry): void {
    setNewest(this.entries, device, entry)
    evictOldest(this.entries, this.entriesMax)
  }

  forget(device: string): void {
    this.entries.delete(device)
  }
}

/** True if both entries are the same connection at the same worker. */
export function sameSession(a: SessionEntry, b: SessionEntry): boolean {
  return a.instance === b.instance && a.worker === b.worker && a.connection === b.connection
}
