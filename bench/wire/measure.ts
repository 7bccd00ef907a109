/** Counts the bytes of each step (connect, resume, push, an idle hour) of one device in one protocol. */
import type { Bytes, WireClient } from './client.js'

/** A protocol as the scenario `wire` uses it. Each function resolves when the step is complete at the device. */
export interface WireProtocol {
  name: string
  /** The first connection, with a token, from the upgrade until the device can get pushes. */
  connect(): Promise<WireClient>
  /** A later connection of the same device, with its ticket or session. */
  resume(): Promise<WireClient>
  /** One push and its acknowledgement. */
  push(client: WireClient): Promise<void>
  keepalive(client: WireClient): Promise<void>
  /** Bytes of the push that an app sees, in this protocol's encoding. */
  contentBytes: number
}

export interface Steps {
  connect: Bytes
  resume: Bytes
  push: Bytes
  idleHour: Bytes
}

const HOUR_SECONDS = 3_600

export async function measureSteps(protocol: WireProtocol, keepaliveSeconds: number): Promise<Steps> {
  const first = await protocol.connect()
  const connect = first.bytes
  await first.close()
  const client = await protocol.resume()
  const resume = client.bytes
  const push = await bytesOf(client, () => protocol.push(client))
  const keepalive = await bytesOf(client, () => protocol.keepalive(client))
  await client.close()
  const times = HOUR_SECONDS / keepaliveSeconds
  return { connect, resume, push, idleHour: { up: keepalive.up * times, down: keepalive.down * times } }
}

/** Pause after a step, so that its late bytes count for it. */
const QUIET_MS = 60

async function bytesOf(client: WireClient, step: () => Promise<void>): Promise<Bytes> {
  const before = client.bytes
  await step()
  await new Promise((resolve) => setTimeout(resolve, QUIET_MS))
  const after = client.bytes
  return { up: after.up - before.up, down: after.down - before.down }
}
