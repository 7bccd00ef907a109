/** Bytes of each step of one device's life in one protocol. */
import type { Bytes, WireClient } from './client.js'

/** A protocol as `wire` drives it. Each function returns when the step is complete at the device. */
export interface WireProtocol {
  name: string
  /** From the upgrade until a push would arrive; the first time with the token. */
  connect(): Promise<WireClient>
  /** The same, as a device that was here before. */
  resume(): Promise<WireClient>
  /** One push comes and is acknowledged. */
  push(client: WireClient): Promise<void>
  keepalive(client: WireClient): Promise<void>
  /** Bytes of what an app sees of the push, in this protocol's own encoding. */
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

/** What arrives late still belongs to the step that caused it. */
const QUIET_MS = 60

async function bytesOf(client: WireClient, step: () => Promise<void>): Promise<Bytes> {
  const before = client.bytes
  await step()
  await new Promise((resolve) => setTimeout(resolve, QUIET_MS))
  const after = client.bytes
  return { up: after.up - before.up, down: after.down - before.down }
}
