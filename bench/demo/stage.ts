/** Makes the stage of the demo: a whole system of its own, a project, and devices when an act wants them. */
import { INGRESS_STREAM, ingressSubject } from '../../protocol/subjects.js'
import { sampleProject } from '../../src/cli/start/sample.js'
import { systemClock } from '../../src/clock.js'
import { mintUserToken } from '../../src/core/tenants/auth/service-keys.js'
import {
  createApplication,
  createFleet,
  createProject,
  mintToken,
  openTenants,
} from '../../src/core/tenants/projects.js'
import { LocalSystem } from '../system/local-system.js'
import { Actor } from './actor.js'
import type { Stage } from './acts.js'
import { Api, each } from './api.js'
import { Checks } from './check.js'

const ENROLMENTS_AT_ONCE = 16
const TOKEN_SECONDS = 3_600
/** Expiry is looked after in spans; shorter ones, so that nobody waits for them. */
const SETTINGS = { core: { expiryBucketMs: 2_000 } }

export interface Theatre {
  stage: Stage
  close(): Promise<void>
}

export async function openTheatre(folder: string, onNotice: (text: string) => void): Promise<Theatre> {
  const system = await LocalSystem.start({ folder, onNotice, settings: SETTINGS })
  try {
    return { stage: await setStage(system), close: () => system.stop() }
  } catch (error) {
    await system.stop()
    throw error
  }
}

async function setStage(system: LocalSystem): Promise<Stage> {
  const admin = await system.brokerAs('admin', 'demo-admin')
  const publisher = await system.brokerAs('publisher', 'demo-publisher')
  const tenants = openTenants(admin, systemClock)
  const { project, serviceKey } = await createProject(tenants, { id: sampleProject, name: 'Demo' })
  const application = await createApplication(tenants, project.id, { name: 'Demo application' })
  const { enrolmentKey } = await createFleet(tenants, { name: 'Demo fleet' })
  const auth = { ...system.config.auth, accessTokenSeconds: TOKEN_SECONDS }
  const { token } = await mintToken(tenants, system.keyring, auth, project.id)

  const userToken = (device: string, user: string) =>
    mintUserToken(serviceKey, {
      user,
      application: application.id,
      device,
      nowMs: Date.now(),
      lifetimeSeconds: TOKEN_SECONDS,
    })

  const everyone: Actor[] = []
  let ingested = 0

  const enter = async (role: { topic?: string; user?: string }): Promise<Actor> => {
    const actor = await Actor.enrolled({ url: system.httpUrl, enrolmentKey })
    everyone.push(actor)
    await actor.connect()
    await actor.register(application.id, role.user ? await userToken(actor.deviceId, role.user) : undefined)
    if (role.topic) await actor.subscribe(role.topic)
    return actor
  }

  return {
    api: new Api(system.httpUrl, project.id, token),
    checks: new Checks(),
    everyone,
    ingested: () => ingested,
    queueMax: system.config.core.queueMax,
    cast: (count, role = {}) => each(Array.from({ length: count }), ENROLMENTS_AT_ONCE, () => enter(role)),
    publish: async (body) => {
      const bytes = new TextEncoder().encode(JSON.stringify(body))
      const headers = { 'Content-Type': 'application/json' }
      await publisher.log(INGRESS_STREAM).append(ingressSubject(project.id), bytes, { headers })
      ingested++
    },
  }
}
