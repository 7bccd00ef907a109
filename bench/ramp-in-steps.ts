/** What one more connection takes of a server's memory: a ramp that stops to look. */
import type { Generators } from './generator/generators.js'
import type { MemoryLook } from './measure/memory-look.js'
import { slope } from './measure/stats.js'
import type { Progress } from './progress.js'

/**
 * The first connections fill what grows once and not with each: tables, pools, pages of the allocator that the start of
 * the process left free. They stay, and the slope begins after them.
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
  /** After the first connections. */
  steps: number
  look(): Promise<MemoryLook>
  label: string
}

/** The time is that of the ramps alone. */
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
      `${label}, ${x} connected: ${mb(seen.rssBytes)} MB resident, ${mb(seen.neededBytes)} without empty pages of V8, ${mb(seen.heapBytes)} of objects`,
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
