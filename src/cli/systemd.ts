import { execFile } from 'node:child_process'
import type { Logger } from '../observe/log.js'

/**
 * Tells systemd how a service stands. Node has no datagram sockets of the file system, so the program systemd-notify
 * speaks for us; where systemd does not ask (NOTIFY_SOCKET) nothing happens.
 */
export function notifySystemd(log: Logger, ...states: string[]): Promise<void> {
  if (!process.env.NOTIFY_SOCKET) return Promise.resolve()
  return new Promise((resolve) => {
    // Under the main process's id: the child is gone before systemd could ask whose it was.
    execFile('systemd-notify', [`--pid=${process.pid}`, ...states], (error) => {
      if (error) log.warn({ error, states }, 'systemd could not be told')
      resolve()
    })
  })
}

/** Pings at half the time that systemd allows (WATCHDOG_USEC), as long as this process turns. Returns what ends it. */
export function watchdog(log: Logger): () => void {
  const everyMs = Number(process.env.WATCHDOG_USEC ?? 0) / 2_000
  if (!(everyMs > 0)) return () => {}
  const timer = setInterval(() => void notifySystemd(log, 'WATCHDOG=1'), everyMs)
  timer.unref()
  return () => clearInterval(timer)
}
