import type { Logger } from '../observe/log.js'

/** A running part of the service, as its command sees it. */
export interface Service {
  /** Where it listens and the like; told to whoever started this process, and logged. */
  readonly ready: Readonly<Record<string, string | number>>
  /** In order, leaving nothing behind. */
  stop(): Promise<void>
  /** How long stop() may take, in milliseconds, as far as it is known only when it is asked for. */
  readonly stopMsMax?: () => number
  /** Rejects where the service cannot go on; absent where it never gives up by itself. */
  readonly failed?: Promise<never>
  /** Resolves, with who asks, where something else than a signal asks it to stop. */
  readonly asked?: Promise<string>
  /** What SIGHUP asks for, where there is no terminal that could have gone. Absent: SIGHUP stops. */
  readonly reload?: () => Promise<void>
}

/** What was started, to be stopped in the opposite order. */
export class Stops {
  readonly #steps: (() => Promise<void>)[] = []

  add(step: () => Promise<void>): void {
    this.#steps.push(step)
  }

  /** For what has to be stopped last, whatever was added before it. */
  first(step: () => Promise<void>): void {
    this.#steps.unshift(step)
  }

  /** Each step once, also where one before it failed; rejects with the first failure. */
  async run(): Promise<void> {
    const failures = await this.#all()
    if (failures.length > 0) throw failures[0]
  }

  /** For a start that failed half way: stops what was started, and rejects with why it failed. */
  async abandon(error: unknown): Promise<never> {
    const failures = await this.#all()
    if (failures.length === 0) throw error
    throw new AggregateError([error, ...failures], error instanceof Error ? error.message : String(error))
  }

  async #all(): Promise<unknown[]> {
    const failures: unknown[] = []
    for (const step of this.#steps.splice(0).reverse()) {
      await step().catch((error: unknown) => failures.push(error))
    }
    return failures
  }
}

/** What a child tells `borealis start` over the IPC channel. */
export interface ReadyNotice {
  ready: Readonly<Record<string, string | number>>
}

/** A stop that takes longer is stuck: the process ends anyway, and says so. */
const stopMsDefault = 20_000

/**
 * Runs a service until SIGTERM, SIGINT, SIGHUP (but see Service.reload), or the end of whoever started it (its IPC channel closes), then stops it.
 * Resolves once it is stopped; rejects where it could not start or gave up. A second signal ends the process at once.
 */
export async function runService(log: Logger, start: () => Promise<Service>, stopMsMax = stopMsDefault): Promise<void> {
  const asked = untilAsked(log)
  try {
    const service = await start()
    // Who started this may be gone by now: `asked` knows then. Without a callback it would be an uncaught error.
    process.send?.({ ready: service.ready } satisfies ReadyNotice, () => undefined)
    log.info(service.ready, 'ready')
    asked.reload = service.reload
    await untilStopped(service, asked.promise, log, stopMsMax)
    log.info('stopped')
  } finally {
    // The channel to the parent would keep this process alive.
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
      log.error({ stopMsMax: limitMs }, 'the stop is stuck: ending anyway')
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
  let isAsked = false
  const ask = (why: string) => {
    if (isAsked && (why === 'SIGTERM' || why === 'SIGINT')) {
      log.warn({ why }, 'asked again: ending at once')
      process.exit(1)
    }
    isAsked = true
    resolve(why)
  }
  process.on('SIGTERM', ask)
  process.on('SIGINT', ask)
  process.on('SIGHUP', (why) => {
    if (asked.reload && !process.stdin.isTTY) {
      asked.reload().catch((error: unknown) => log.error({ error }, 'reload: what was stays'))
      return
    }
    // The terminal is gone: writing to it fails from now on, which must not end us half way.
    for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined)
    ask(why)
  })
  process.once('disconnect', () => ask('the parent ended'))
  return asked
}
