/** A client over a state file: the identity in it, or one enrolled now where there is none or its end was told. */
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
  /** Path of the state file; made where there is none. One process a file. */
  state: string
  /** How to enrol, where the state has no identity or one that is over. Its `url` is where tokens are renewed, too. */
  enrol?: EnrolOptions
}

/** Rejects with DeviceError: what the state file, the lock or the enrolment said. The client is not connected yet. */
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

/** Puts an identity into a state, durably: enrolment cannot be repeated for the same device. */
export function identify(store: StateStore, identity: Identity): Promise<void> {
  const change = { kind: 'identity', identity } as const
  store.state.apply(change)
  return new Promise((resolve, reject) => {
    store.write([change], (error) => (error ? reject(error) : resolve()))
  })
}
