/** Measures how much memory one more connection takes in a server: a ramp that pauses and measures after each step. */
import type { Generators } from './generator/generators.js'
import type { MemoryLook } from './measure/memory-look.js'
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
  look(): Promise<MemoryLook>
  label: string
}

/** `seconds` counts the ramps only, not the measurements between them. */
export async function rampInSteps(
  progress: Progress,
  { devices, connections, steps, look, label }: StepsOptions,
): Promise<Stepped> {
  const points: (MemoryLook & { x: number })[] = []
  const first = Math.floor(connections * FIRST_SHARE)
  let seconds = 0
  let connected = 0
  for (let step = 0; step <= steps; step++) {
    const x = first + Math.floor(((connections - first) * step) / steps)
    const ramp = await devices.ramp({ count: x - connected, label })
    connected = x
    seconds += ramp.seconds
    const seen = await look()
    const mb = (bytes: number) => (bytes / 1e6).toFixed(2)
    progress.say(
      `${label}, ${x} connected: ${mb(seen.rssBytes)} MB resident, ${mb(seen.neededBytes)} without empty pages of V8, ${mb(seen.heapBytes)} in objects`,
    )
    points.push({ x, ...seen })
  }
  const each = (bytes: (seen: MemoryLook) => number) => slope(points.map((point) => ({ x: point.x, y: bytes(point) })))
  return {
    seconds,
    bytesEach: each(({ neededBytes }) => neededBytes),
    heapBytesEach: each(({ heapBytes }) => heapBytes),
  }
}
