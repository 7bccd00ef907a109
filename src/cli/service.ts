/** How every process of the service runs: it starts, says that it is ready, waits for a reason to stop, and stops. */
import type { Logger } from '../observe/log.js'

/** A running part of the service, as seen by its command. */
export interface Service {
  /** Addresses and the like, for the log and for the process that started this one. */
  readonly ready: Readonly<Record<string, string | number>>
  /** Stops everything in order and leaves nothing behind. */
  stop(): Promise<void>
  /** Longest time for stop(), in milliseconds; a function, because it may be known only when the stop begins. */
  readonly stopMsMax?: () => number
  /** Rejects if the service cannot go on. Absent if it never gives up by itself. */
  readonly failed?: Promise<never>
  /** Resolves with the name of the requester when the service is asked to stop other than by a signal. */
  readonly asked?: Promise<string>
  /** Called at SIGHUP unless a terminal hung up. If absent, SIGHUP stops the service. */
  readonly reload?: () => Promise<void>
}

/** The message of a child process to `borealis start`, over the IPC channel. */
export interface ReadyNotice {
  ready: Readonly<Record<string, string | number>>
}

/** Ctrl-C in `npm start` sends SIGINT twice, once from the terminal and once from npm. Both are one request. */
const SAME_REQUEST_MS = 1_000

/** A stop that takes longer is stuck. The process then logs an error and exits. */
const stopMsDefault = 20_000

/**
 * Runs a service until SIGTERM, SIGINT, SIGHUP (see Service.reload) or the end of its parent (which closes the IPC
 * channel), and then stops it. Resolves when it is stopped. Rejects if it could not start, or gave up. A second SIGTERM or
 * SIGINT, more than a second later, ends the process at once.
 */
export async function runService(log: Logger, start: () => Promise<Service>, stopMsMax = stopMsDefault): Promise<void> {
  const asked = untilAsked(log)
  try {
    const service = await start()
    // The parent may be gone by now. Without the callback, that would be an uncaught error; `asked` notices it.
    process.send?.({ ready: service.ready } satisfies ReadyNotice, () => undefined)
    log.info(service.ready, 'ready')
    asked.reload = service.reload
    await untilStopped(service, asked.promise, log, stopMsMax)
    log.info('stopped')
  } finally {
    // An open channel to the parent would keep this process alive.
    if (process.connected) process.disconnect()
  }
}

async function untilStopped(service: Service, asked: Promise<string>, log: Logger, stopMsMax: number): Promise<void> {
  try {
    const why = await Promise.race([asked, service.asked, service.failed].filter((one) => one !== undefined))
    log.info({ why }, 'stopping')
  } finally {
    const limitMs = service.stopMsMax?.() ?? stopMsMax
    const stuck = setTimeout(() => {
      log.error({ stopMsMax: limitMs }, 'the stop takes too long: exiting without it')
      process.exit(1)
    }, limitMs)
    await service.stop()
    clearTimeout(stuck)
  }
}

interface Asked {
  /** Resolves with the reason of the first request to stop. */
  promise: Promise<string>
  reload?: (() => Promise<void>) | undefined
}

function untilAsked(log: Logger): Asked {
  let resolve = (_why: string) => {}
  const asked: Asked = {
    promise: new Promise((resolved) => {
      resolve = resolved
    }),
  }
  let askedAtMs: number | null = null
  const ask = (why: string) => {
    if (askedAtMs !== null && (why === 'SIGTERM' || why === 'SIGINT')) {
      if (performance.now() - askedAtMs < SAME_REQUEST_MS) return
      log.warn({ why }, 'second request to stop: exiting at once')
      process.exit(1)
    }
    askedAtMs ??= performance.now()
    resolve(why)
  }
  process.on('SIGTERM', ask)
  process.on('SIGINT', ask)
  process.on('SIGHUP', (why) => {
    if (asked.reload && !process.stdin.isTTY) {
      asked.reload().catch((error: unknown) => log.error({ error }, 'the reload failed: the present keys stay in use'))
      return
    }
    // The terminal is gone. Writing to it fails from now on, which must not interrupt the stop.
    for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined)
    ask(why)
  })
  process.once('disconnect', () => ask('the parent ended'))
  return asked
}
