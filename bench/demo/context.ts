/** Starts the system of the demo with a project, and makes devices for its cases. */
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
import { Api, each } from './api.js'
import type { DemoContext } from './cases.js'
import { Checks } from './check.js'
import { DemoDevice } from './device.js'

const ENROLMENTS_AT_ONCE = 16
const TOKEN_SECONDS = 3_600
/** Messages expire in batches of this span. The default would make the demo wait. */
const SETTINGS = { core: { expiryBucketMs: 2_000 } }

export interface Demo {
  context: DemoContext
  close(): Promise<void>
}

export async function startDemo(folder: string, onNotice: (text: string) => void): Promise<Demo> {
  const system = await LocalSystem.start({ folder, onNotice, settings: SETTINGS })
  try {
    return { context: await contextOf(system), close: () => system.stop() }
  } catch (error) {
    await system.stop()
    throw error
  }
}

async function contextOf(system: LocalSystem): Promise<DemoContext> {
  const admin = await system.brokerAs('admin', 'demo-admin')
  const publisher = await system.brokerAs('publisher', 'demo-publisher')
  const tenants = openTenants(admin, systemClock)
  const { project, serviceKey } = await createProject(tenants, { id: sampleProject, name: 'Demo' })
  const application = await createApplication(tenants, project.id, { name: 'Demo application' })
  const { enrolmentKey } = await createFleet(tenants, { name: 'Demo fleet' })
  const auth = { ...system.config.auth, accessTokenSeconds: TOKEN_SECONDS }
  const { token } = await mintToken(tenants, system.keyring, auth, project.id)

  const userToken = (deviceId: string, user: string) =>
    mintUserToken(serviceKey, {
      user,
      application: application.id,
      device: deviceId,
      nowMs: Date.now(),
      lifetimeSeconds: TOKEN_SECONDS,
    })

  const everyDevice: DemoDevice[] = []
  let ingested = 0

  const newDevice = async (role: { topic?: string; user?: string }): Promise<DemoDevice> => {
    const device = await DemoDevice.enrolled({ url: system.httpUrl, enrolmentKey })
    everyDevice.push(device)
    await device.connect()
    await device.register(application.id, role.user ? await userToken(device.deviceId, role.user) : undefined)
    if (role.topic) await device.subscribe(role.topic)
    return device
  }

  return {
    api: new Api(system.httpUrl, project.id, token),
    checks: new Checks(),
    everyDevice,
    ingested: () => ingested,
    queueMax: system.config.core.queueMax,
    makeDevices: (count, role = {}) => each(Array.from({ length: count }), ENROLMENTS_AT_ONCE, () => newDevice(role)),
    publish: async (body) => {
      const bytes = new TextEncoder().encode(JSON.stringify(body))
      const headers = { 'Content-Type': 'application/json' }
      await publisher.log(INGRESS_STREAM).append(ingressSubject(project.id), bytes, { headers })
      ingested++
    },
  }
}
