/** Upgrade and HELLO as a correct device sends them, for well-behaved devices and for attacks on a session. */
import { encodeFrame } from '../../protocol/encode.js'
import { PROTOCOL_VERSION } from '../../protocol/frame.js'
import type { DeviceFrame, HelloFrame } from '../../protocol/frame-types.js'
import type { Random } from './chance.js'
import { frame, upgradeRequest } from './websocket.js'
import type { Wire } from './wire.js'

export const sendFrames = (random: Random, wire: Wire, ...frames: DeviceFrame[]): void =>
  wire.write(frame(random, Buffer.concat(frames.map((one) => encodeFrame(one)))))

export type HelloParts = Pick<HelloFrame, 'credential' | 'connection'> & Partial<HelloFrame>

export const helloFrame = (parts: HelloParts): HelloFrame => ({
  ...{ type: 'HELLO', version: PROTOCOL_VERSION, client: null, cursor: null, gap: null },
  ...parts,
})

/** Upgrades the connection and sends HELLO. False if the upgrade is refused or does not come in time. */
export async function enter(random: Random, wire: Wire, hello: HelloParts, timeoutMs: number): Promise<boolean> {
  wire.write(upgradeRequest(random))
  if (!(await wire.upgraded(timeoutMs))) return false
  sendFrames(random, wire, helloFrame(hello))
  return true
}
