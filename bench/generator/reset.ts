/** Away without a word. */
import type { Socket } from 'node:net'

/**
 * Resets the connection, so that it leaves nothing behind in the kernel. One whose end was written already is only
 * destroyed: Node 20 never closes a socket that is reset while its shutdown is under way, and spins at its exit for ever.
 */
export function reset(socket: Socket): void {
  if (socket.connecting || socket.writableEnded) socket.destroy()
  else socket.resetAndDestroy()
}
