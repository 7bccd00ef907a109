import type { Socket } from 'node:net'

/**
 * Closes the connection with a TCP reset, so that it leaves no TIME_WAIT in the kernel. A socket that is already ending is
 * destroyed instead: Node 20 never closes a socket that is reset during its shutdown, and its process never exits.
 */
export function reset(socket: Socket): void {
  if (socket.connecting || socket.writableEnded) socket.destroy()
  else socket.resetAndDestroy()
}
