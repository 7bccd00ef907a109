/** Where in the code a sample was, in names that a reader of src/ finds again. */

/** Of a .cpuprofile. `url` is empty for what is no JavaScript. */
export interface CallFrame {
  functionName: string
  url: string
}

export interface Place {
  /** A file of ours, a package, a region of Node, or what V8 does by itself. */
  part: string
  name: string
}

/** No JavaScript on the stack, and V8 not told that the thread waits. */
export const PROGRAM = '(program)'

/** What these call natively is called uWebSockets.js's, where it has such a method: they alone import it. */
const CALLERS_OF_UWS = /\/dist\/(src\/transport\/socket\/listener|bench\/baselines\/uws-child)\.js$/
const UWS_METHODS = new Set([
  ...['send', 'publish', 'end', 'close', 'cork', 'subscribe', 'unsubscribe', 'getTopics', 'numSubscribers'],
  ...['getUserData', 'getBufferedAmount', 'upgrade', 'writeStatus', 'writeHeader', 'getHeader'],
  ...['getRemoteAddressAsText', 'getProxiedRemoteAddressAsText'],
])

/** Modules of Node by what they are for; the first that matches. */
const NODE_REGIONS: readonly (readonly [RegExp, string])[] = [
  [/crypto/, 'node crypto'],
  [/stream|^net$|internal\/net/, 'node sockets and streams'],
  [/buffer|encoding|string_decoder|internal\/util|internal\/webidl/, 'node buffers and texts'],
  [/timers|task_queues|promises|async_hooks|^events$|process\//, 'node event loop'],
]

/**
 * `callers`: from the nearest outwards. Native functions belong to the JavaScript that calls them: the profiler sees them as
 * one frame, with everything that they call, the kernel included.
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
  // What was compiled from text or lies elsewhere has no name that anybody would find.
  if (module === undefined) return { part: 'other scripts', name }
  const [, region] = NODE_REGIONS.find(([pattern]) => pattern.test(module)) ?? []
  return { part: region ?? 'node, other modules', name: `${module.split('/').pop()} ${name}` }
}
