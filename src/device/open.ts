/** Opens a client on a state file, and enrols the device first if the file has no valid identity. */
import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { systemClock } from '../clock.js'
import { BorealisClient, type ClientOptions } from './client.js'
import { type EnrolOptions, enrol } from './enrol.js'
import { DeviceError } from './errors.js'
import { deviceSettings } from './settings.js'
import type { Identity } from './state/state.js'
import { FileStateStore } from './state/state-file.js'
import type { StateStore } from './state/state-store.js'

export interface OpenOptions extends Omit<ClientOptions, 'store'> {
  /** Path of the state file, which is created if it does not exist. Only one process may use it. */
  state: string
  /** Used if the state has no identity, or one that is over. Tokens are renewed at the same `url`. */
  enrol?: EnrolOptions
}

/**
 * Returns a client that is not connected yet. Rejects with a DeviceError of the state file (`state_...`), of the enrolment
 * (`enrol_...`), or with `not_enrolled`.
 */
export async function openClient({ state, enrol: enrolment, ...options }: OpenOptions): Promise<BorealisClient> {
  const settings = deviceSettings(options.settings)
  const clock = options.clock ?? systemClock
  await mkdir(dirname(state), { recursive: true })
  const store = await FileStateStore.open(state, settings, () => clock.now())
  try {
    const { identity } = store.state
    if (!identity || identity.isOver) {
      if (!enrolment) throw new DeviceError('not_enrolled', state)
      await identify(store, await enrol({ random: options.random, ...enrolment }))
    } else if (enrolment && identity.core === undefined) await identify(store, { ...identity, core: enrolment.url })
    return new BorealisClient({ ...options, store })
  } catch (error) {
    await store.close()
    throw error
  }
}

/** Stores an identity, and resolves when it is durable. A lost identity cannot be enrolled again: it is another device. */
export function identify(store: StateStore, identity: Identity): Promise<void> {
  const change = { kind: 'identity', identity } as const
  store.state.apply(change)
  return new Promise((resolve, reject) => {
    store.write([change], (error) => (error ? reject(error) : resolve()))
  })
}
