/**
 * Ends child processes that cannot notice the end of their parent themselves: nats-server, brokers, test programs.
 *
 * A parent that is killed with SIGKILL runs no handler, and Node cannot ask the kernel to end a child with its parent. A
 * small shell beside each child does it instead: it reads from a pipe of which this process alone holds the other end, so
 * the kernel reports the end of this process to the shell, whatever ended it.
 */
import { type ChildProcess, spawn } from 'node:child_process'

/**
 * `read` succeeds when the child ended first, and fails at the end of the pipe. The pause lets programs that notice a lost
 * parent themselves (ours, written in Node) stop in order while their server still answers.
 */
const WATCH = `
read -r _ && exit
sleep 2
kill -TERM "$1" 2>/dev/null || exit
for _ in 1 2 3 4 5 6 7 8 9 10; do
  sleep 1
  kill -0 "$1" 2>/dev/null || exit
done
kill -KILL "$1"
`

/** From now on `child` ends at most 13 s after this process. Does not keep this process alive. */
export function endWithParent(child: ChildProcess): void {
  if (child.pid === undefined) return
  // A process group of its own: Ctrl-C and the hang-up of a closed terminal must not end the watcher first.
  const watcher = spawn('/bin/sh', ['-c', WATCH, 'end-with-parent', String(child.pid)], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  watcher.unref()
  // Without /bin/sh, or after somebody killed the watcher, the child is merely not watched.
  watcher.on('error', () => undefined)
  watcher.stdin.on('error', () => undefined)
  ;(watcher.stdin as { unref?(): void }).unref?.()
  child.once('exit', () => watcher.stdin.end('ended\n'))
}

const NPM_POLL_MS = 1_000

/**
 * Calls `onEnded` once if this process runs under an npm script and npm ends first. An npm that is killed with SIGKILL
 * passes no signal on, so its script would go on unseen. Does not keep this process alive. Returns a function that ends
 * the watch.
 */
export function onNpmEnded(onEnded: () => void): () => void {
  // Other parents may end on purpose: a shell that leaves a run in the background.
  if (process.env.npm_lifecycle_event === undefined) return () => undefined
  const npm = process.ppid
  const timer = setInterval(() => {
    if (process.ppid === npm) return
    clearInterval(timer)
    onEnded()
  }, NPM_POLL_MS)
  timer.unref()
  return () => clearInterval(timer)
}
