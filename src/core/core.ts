/** One core process: the delivery core, and its public face where the process has that role. */
import {
  BROADCAST_STREAM,
  EXPIRY_STREAM,
  eventsStream,
  INGRESS_STREAM,
  messagesStream,
  parkedStream,
} from '../../protocol/subjects.js'
import type { Clock } from '../clock.js'
import type { Fabric } from '../fabric/fabric.js'
import type { Keyring } from '../keyring.js'
import type { Logger } from '../observe/log.js'
import { DeviceService } from './devices.js'
import { createGateway } from './http/gateway.js'
import type { AuthSettings, DeviceLimits, HttpSettings, IngressSettings, MessageLimits } from './http/settings.js'
import { Ingress } from './ingress.js'
import { encodeRegistrationId } from './registration-id.js'
import type { CoreSettings } from './settings.js'
import { startDelivery } from './steps/delivery.js'
import type { Stoppable } from './steps/lease.js'
import { Directory } from './tenants/directory.js'
import { AccessTokenVerifier } from './tenants/tokens.js'

export interface CoreOptions {
  fabric: Fabric
  clock: Clock
  /** 0 up to 1, as Math.random. */
  random: () => number
  settings: {
    core: CoreSettings
    http: HttpSettings
    auth: AuthSettings
    messages: MessageLimits
    devices: DeviceLimits
    ingress: IngressSettings
    /** store.split */
    split: number
  }
  keyring: Keyring
  log: Logger
}

export interface Core {
  /** Where the API listens; null where this process has no gateway. */
  readonly url: string | null
  readonly port: number | null
  /** This process's number in message ids. */
  readonly node: number
  stop(): Promise<void>
}

/** Resolves when everything serves. Rejects with FabricError or the listener's error; then nothing is left running. */
export async function startCore(options: CoreOptions): Promise<Core> {
  const { fabric, clock, keyring, log, settings } = options
  const { core, http, auth, messages: limits, split } = settings
  const started: Stoppable[] = []
  const stop = async () => {
    for (const part of started.splice(0).reverse()) await part.stop()
  }
  const registrationKey = keyring.macKey('registration')
  const registrationKeys = new Map(keyring.macKeys('registration').map((key) => [key.kid, key]))
  try {
    const directory = await Directory.start(fabric, log)
    started.push(directory)
    const registrationIdOf = (address: Parameters<typeof encodeRegistrationId>[1]) =>
      encodeRegistrationId(registrationKey, address)
    const { random } = options
    const delivery = await startDelivery({ fabric, clock, random, settings: core, split, log, registrationIdOf })
    started.push(delivery)
    const devices = new DeviceService({ fabric, directory, registrationKey, limits: settings.devices, clock, log })
    devices.start()
    started.push(devices)
    const { accept } = delivery
    const { bodyBytesMax } = http
    const taking = {
      fabric,
      directory,
      registrationKeys,
      accept,
      settings: settings.ingress,
      limits,
      bodyBytesMax,
      log,
    }
    const ingress = new Ingress(taking)
    started.push(ingress)
    await ingress.start()
    if (!core.gateway) return { url: null, port: null, node: delivery.node, stop }

    const { readStatus, cancel, readCounters } = delivery
    const accessTokens = await AccessTokenVerifier.create(keyring, auth)
    const streams = streamsOf(split)
    const face = { fabric, directory, keyring, accessTokens, registrationKeys, streams, auth, limits, clock, log }
    const gateway = createGateway({ ...face, accept, readStatus, cancel, readCounters }, http)
    started.push(gateway)
    const { url, port } = await gateway.listen()
    return { url, port, node: delivery.node, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Without these a core can not do its work. */
function streamsOf(split: number): string[] {
  const families = [messagesStream, parkedStream, eventsStream]
  const perPartition = families.flatMap((name) => Array.from({ length: split }, (_, index) => name(index)))
  return [...perPartition, BROADCAST_STREAM, EXPIRY_STREAM, INGRESS_STREAM]
}
