/** Measures how much memory one more connection takes in a server: a ramp that pauses and measures after each step. */
import type { Generators } from './generator/generators.js'
import type { MemoryReading } from './measure/memory-probe.js'
import { slope } from './measure/stats.js'
import type { Progress } from './progress.js'

/**
 * The first connections fill memory that grows once and not with each connection: tables, pools, pages that the start of
 * the process left free. So the slope is measured after this share of the connections.
 */
const FIRST_SHARE = 0.3

export interface Stepped {
  seconds: number
  bytesEach: number
  heapBytesEach: number
}

export interface StepsOptions {
  devices: Generators
  connections: number
  /** Steps of the ramp after the first connections. */
  steps: number
  readMemory(): Promise<MemoryReading>
  label: string
}

/** `seconds` counts the ramps only, not the measurements between them. */
export async function rampInSteps(
  progress: Progress,
  { devices, connections, steps, readMemory, label }: StepsOptions,
): Promise<Stepped> {
  const points: (MemoryReading & { x: number })[] = []
  const first = Math.floor(connections * FIRST_SHARE)
  let seconds = 0
  let connected = 0
  for (let step = 0; step <= steps; step++) {
    const x = first + Math.floor(((connections - first) * step) / steps)
    const ramp = await devices.ramp({ count: x - connected, label })
    connected = x
    seconds += ramp.seconds
    const reading = await readMemory()
    const mb = (bytes: number) => (bytes / 1e6).toFixed(2)
    progress.say(
      `${label}, ${x} connected: ${mb(reading.rssBytes)} MB resident, ${mb(reading.neededBytes)} without empty pages of V8, ${mb(reading.heapBytes)} in objects`,
    )
    points.push({ x, ...reading })
  }
  const each = (bytes: (reading: MemoryReading) => number) =>
    slope(points.map((point) => ({ x: point.x, y: bytes(point) })))
  return {
    seconds,
    bytesEach: each(({ neededBytes }) => neededBytes),
    heapBytesEach: each(({ heapBytes }) => heapBytes),
  }
}
