/** The sample project, application and fleet of a new installation, so that a first push needs no administration. */
import { CodedError } from '../../../protocol/errors.js'
import { systemClock } from '../../clock.js'
import type { PrivateServiceKey } from '../../core/tenants/auth/service-keys.js'
import type { AuthSettings } from '../../core/tenants/auth/settings.js'
import {
  addServiceKey,
  createApplication,
  createFleet,
  createProject,
  getProject,
  mintToken,
  openTenants,
  type Tenants,
} from '../../core/tenants/projects.js'
import type { Keyring } from '../../keyring.js'
import type { Broker } from '../../nats/broker.js'
import type { DataFolder } from './folder.js'

export interface Sample {
  project: string
  clientId: string
  application: string
  enrolmentKey: string
  serviceKey: PrivateServiceKey
}

export const sampleProject = 'sample'
/** Long enough for a day of experiments. */
const tokenSeconds = 86_400

/** Reuses the sample from the file as far as the store still has it, and creates the rest. */
export async function ensureSample(broker: Broker, folder: DataFolder): Promise<Sample> {
  const tenants = openTenants(broker, systemClock)
  const known = folder.read<Sample>('sample.json')
  const { clientId, serviceKey } = await ensureProject(tenants, known)
  const application =
    known && (await tenants.applications.get(known.application))
      ? known.application
      : (await createApplication(tenants, sampleProject, { name: 'Sample application' })).id
  const enrolmentKey =
    known && (await hasFleet(tenants, known.enrolmentKey))
      ? known.enrolmentKey
      : (await createFleet(tenants, { name: 'Sample fleet' })).enrolmentKey
  const sample = { project: sampleProject, clientId, application, enrolmentKey, serviceKey }
  folder.write('sample.json', sample)
  return sample
}

export async function mintSampleToken(broker: Broker, keyring: Keyring, auth: AuthSettings): Promise<string> {
  const lifetime = { ...auth, accessTokenSeconds: Math.max(auth.accessTokenSeconds, tokenSeconds) }
  return (await mintToken(openTenants(broker, systemClock), keyring, lifetime, sampleProject)).token
}

async function ensureProject(
  tenants: Tenants,
  known: Sample | null,
): Promise<{ clientId: string; serviceKey: PrivateServiceKey }> {
  try {
    const { serviceAccount } = await getProject(tenants, sampleProject)
    const key = known?.serviceKey
    const isGood = key !== undefined && serviceAccount.keys.some(({ kid }) => kid === key.keyId)
    // The store keeps no private keys. If the file has lost ours, the project gets another key.
    return {
      clientId: serviceAccount.clientId,
      serviceKey: isGood ? key : await addServiceKey(tenants, sampleProject),
    }
  } catch (error) {
    if (!(error instanceof CodedError && error.code === 'unknown_project')) throw error
    const { project, serviceKey } = await createProject(tenants, { id: sampleProject, name: 'Sample project' })
    return { clientId: project.serviceAccount.clientId, serviceKey }
  }
}

async function hasFleet(tenants: Tenants, enrolmentKey: string): Promise<boolean> {
  const id = enrolmentKey.split('_')[1]
  return id !== undefined && (await tenants.fleets.get(`fleet_${id}`)) !== null
}
