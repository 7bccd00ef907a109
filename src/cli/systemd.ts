/** systemd: readiness, stop and watchdog notifications. */
import { execFile } from 'node:child_process'
import type { Logger } from '../observe/log.js'

/**
 * Notifies systemd of the state of a service, or does nothing if systemd did not ask for it (NOTIFY_SOCKET). Node has no
 * Unix datagram sockets, so the program systemd-notify sends the message.
 */
export function notifySystemd(log: Logger, ...states: string[]): Promise<void> {
  if (!process.env.NOTIFY_SOCKET) return Promise.resolve()
  return new Promise((resolve) => {
    // With the id of the main process, because the child has ended before systemd can look it up.
    execFile('systemd-notify', [`--pid=${process.pid}`, ...states], (error) => {
      if (error) log.warn({ error, states }, 'systemd-notify failed')
      resolve()
    })
  })
}

/** Sends a watchdog ping at half the interval that systemd allows (WATCHDOG_USEC). Returns a function that ends it. */
export function watchdog(log: Logger): () => void {
  const everyMs = Number(process.env.WATCHDOG_USEC ?? 0) / 2_000
  if (!(everyMs > 0)) return () => {}
  const timer = setInterval(() => void notifySystemd(log, 'WATCHDOG=1'), everyMs)
  timer.unref()
  return () => clearInterval(timer)
}
