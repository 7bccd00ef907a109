/** Names the place in the code of a sample in terms that a reader of src/ knows. */

/** A frame of a .cpuprofile. `url` is empty for native code. */
export interface CallFrame {
  functionName: string
  url: string
}

export interface Place {
  /** A file of ours, a package, a region of Node, or work of V8 itself. */
  part: string
  name: string
}

/** V8's name for native code without JavaScript on the stack, if V8 does not know that the thread waits. */
export const PROGRAM = '(program)'

/** The only files that import uWebSockets.js. A native call from them counts as uWebSockets.js if it has such a method. */
const CALLERS_OF_UWS = /\/dist\/(src\/transport\/socket\/listener|bench\/baselines\/uws-child)\.js$/
const UWS_METHODS = new Set([
  'send',
  'publish',
  'end',
  'close',
  'cork',
  'subscribe',
  'unsubscribe',
  'getTopics',
  'numSubscribers',
  'getUserData',
  'getBufferedAmount',
  'upgrade',
  'writeStatus',
  'writeHeader',
  'getHeader',
  'getRemoteAddressAsText',
  'getProxiedRemoteAddressAsText',
])

/** Regions of Node's modules. The first pattern that matches counts. */
const NODE_REGIONS: readonly (readonly [RegExp, string])[] = [
  [/crypto/, 'node crypto'],
  [/stream|^net$|internal\/net/, 'node sockets and streams'],
  [/buffer|encoding|string_decoder|internal\/util|internal\/webidl/, 'node buffers and texts'],
  [/timers|task_queues|promises|async_hooks|^events$|process\//, 'node event loop'],
]

/**
 * `callers` begins with the nearest. A native function counts for the JavaScript that calls it: the profiler sees the
 * function as one frame, together with everything that it calls, the kernel included.
 */
export function placeOf(frame: CallFrame, callers: Iterable<CallFrame>): Place {
  const name = frame.functionName || '(anonymous)'
  if (frame.url !== '') return inScript(frame.url, name)
  if (name === '(garbage collector)') return { part: 'V8 garbage collection', name }
  for (const { url } of callers) {
    if (url === '') continue
    if (CALLERS_OF_UWS.test(url) && UWS_METHODS.has(name)) return { part: 'uWebSockets.js', name }
    return { part: inScript(url, name).part, name: `${name} (native)` }
  }
  return { part: PROGRAM, name }
}

function inScript(url: string, name: string): Place {
  const [, inPackage, file = ''] = /.*node_modules\/((?:@[^/]+\/)?[^/]+)\/(?:.*\/)?([^/]+)$/.exec(url) ?? []
  if (inPackage !== undefined)
    return { part: inPackage === 'nats' ? 'nats client' : inPackage, name: `${file} ${name}` }
  const [, ours] = /\/dist\/(.+)\.js$/.exec(url) ?? []
  if (ours !== undefined) return { part: `${ours}.ts`, name }
  const [, module] = /^node:(.+)$/.exec(url) ?? []
  // Code from eval or from another folder has no name that a reader would know.
  if (module === undefined) return { part: 'other scripts', name }
  const [, region] = NODE_REGIONS.find(([pattern]) => pattern.test(module)) ?? []
  return { part: region ?? 'node, other modules', name: `${module.split('/').pop()} ${name}` }
}
