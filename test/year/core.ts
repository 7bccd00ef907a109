/** One core process of the year, whole: startCore() with its HTTP servers, which answer requests that are handed to them. */
import type { FastifyInstance } from 'fastify'
import { followKeyring } from '../../src/cli/keyring-reload.js'
import type { Bind } from '../../src/core/api/server.js'
import { type CoreOptions, startCore } from '../../src/core/core.js'
import type { Keyring } from '../../src/keyring.js'
import type { SimClient } from '../sim/client.js'
import type { WorldParts } from '../sim/parts.js'
import { type Program, SimProcess } from '../sim/process.js'
import type { WorkCount } from './real-work.js'

/** Which of its servers. */
export type Side = 'api' | 'admin'

export interface CoreSetup {
  settings: CoreOptions['settings']
  /** The file of the keyring, as it is now. */
  keyring(): Keyring
  work: WorkCount
}

interface RunningCore extends Program {
  keyring: Keyring
  apps: Map<Side, FastifyInstance>
}

export class YearCore extends SimProcess<RunningCore, WorldParts> {
  /** Requests that this process has not answered: nobody answers them after a crash. */
  private readonly unanswered = new Set<() => void>()

  constructor(
    name: string,
    world: WorldParts,
    private readonly setup: CoreSetup,
  ) {
    super(name, world)
  }

  app(side: Side): FastifyInstance | null {
    return this.program?.apps.get(side) ?? null
  }

  /** The revision of the keyring that it works with; null: it is not up. */
  get keyringRevision(): number | null {
    return this.program?.keyring.mark.revision ?? null
  }

  /** A request has come to this process. The returned function says that it was answered. */
  beginRequest(): () => void {
    const done = this.setup.work.begin()
    this.unanswered.add(done)
    return () => {
      this.unanswered.delete(done)
      done()
    }
  }

  override crash(silently: boolean): void {
    super.crash(silently)
    for (const done of this.unanswered) done()
    this.unanswered.clear()
  }

  protected async run(broker: SimClient): Promise<RunningCore> {
    const { settings, work } = this.setup
    const log = this.world.loggerOf(this.name)
    const keyring = this.setup.keyring()
    const follow = followKeyring(broker, log, async () => keyring.use(this.setup.keyring()))
    const apps = new Map<Side, FastifyInstance>()
    const bind: Bind = async (app, { port }) => {
      apps.set(port === settings.adminApi.port ? 'admin' : 'api', app)
      await app.ready()
      return { url: `http://${this.name}:${port}`, port }
    }
    const start = startCore({
      broker,
      clock: broker.clock,
      random: this.world.random,
      settings,
      bind,
      keyring,
      log,
    })
    const core = await work.during(start)
    const stop = async () => {
      follow.stop()
      await work.during(core.stop())
    }
    return { apps, keyring, stop }
  }
}
