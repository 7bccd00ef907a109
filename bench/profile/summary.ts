/** Where the time of a .cpuprofile went: by place in the code, and by function, in shares of the time that was not idle. */
import type { Row } from '../scenario.js'

interface ProfileNode {
  id: number
  callFrame: { functionName: string; url: string; lineNumber: number }
  children?: number[]
}

export interface CpuProfile {
  nodes: ProfileNode[]
  samples: number[]
  timeDeltas: number[]
}

export interface ProfileSummary {
  busyMicros: number
  /** Self time by package or file. */
  places: Row[]
  functions: Row[]
}

const ROWS = 30

export function summarise({ nodes, samples, timeDeltas }: CpuProfile): ProfileSummary {
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const parent = new Map(nodes.flatMap((node) => (node.children ?? []).map((child) => [child, node] as const)))
  const places = new Map<string, number>()
  const functions = new Map<string, number>()
  let busyMicros = 0
  for (const [i, id] of samples.entries()) {
    const node = byId.get(id)
    const micros = timeDeltas[i] ?? 0
    if (!node || node.callFrame.functionName === '(idle)') continue
    busyMicros += micros
    add(places, placeOf(node, parent), micros)
    add(functions, nameOf(node), micros)
  }
  return { busyMicros, places: top(places, busyMicros, 'place'), functions: top(functions, busyMicros, 'function') }
}

/** Native functions belong to whoever calls them. */
function placeOf(node: ProfileNode, parent: ReadonlyMap<number, ProfileNode>): string {
  for (let at: ProfileNode | undefined = node; at; at = parent.get(at.id)) {
    const { url, functionName } = at.callFrame
    if (functionName === '(garbage collector)') return functionName
    if (url !== '') return fileOf(url)
  }
  // Called by no JavaScript: the event loop, the sockets' C++, the kernel.
  return '(native)'
}

function nameOf({ callFrame: { functionName, url, lineNumber } }: ProfileNode): string {
  const name = functionName || '(anonymous)'
  return url === '' ? name : `${name} ${fileOf(url)}:${lineNumber + 1}`
}

/** A package by its name, a file of ours by its path. */
function fileOf(url: string): string {
  const inPackage = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)
  return inPackage?.[1] ?? /dist\/(.+)\.js$/.exec(url)?.[1] ?? url
}

function add(sums: Map<string, number>, key: string, micros: number): void {
  sums.set(key, (sums.get(key) ?? 0) + micros)
}

function top(sums: ReadonlyMap<string, number>, whole: number, title: string): Row[] {
  return [...sums]
    .sort(([, a], [, b]) => b - a)
    .slice(0, ROWS)
    .map(([name, micros]) => ({
      [title]: name,
      'share %': Number(((100 * micros) / whole).toFixed(1)),
      ms: Math.round(micros / 1000),
    }))
}
