/** Checks and chooses the ports of `borealis start`. */
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { CommandError } from '../context.js'

/** A port for a part, with the setting that chooses it. */
export interface PortWish {
  host: string
  /** 0: any free one. */
  port: number
  /** Such as `http.port`, for the message. */
  setting: string
  variable: string
}

/**
 * Checks that the ports are free, by listening on each for a moment, and chooses a port for each 0. This happens before
 * any part starts, because uWebSockets.js would silently share a used port and take some of another program's connections.
 * Throws CommandError that names each used port and the setting to change.
 */
export async function claimPorts(wishes: readonly PortWish[]): Promise<number[]> {
  const ports: number[] = []
  const problems: string[] = []
  for (const wish of wishes) {
    const twin = wishes.findIndex(({ port }, index) => port !== 0 && port === wish.port && index < ports.length)
    if (twin >= 0) problems.push(`${wish.setting} and ${wishes[twin]?.setting} are both ${wish.port}`)
    const found = wish.port === 0 ? await anyFree(wish, ports) : await probe(wish)
    if (typeof found === 'number') ports.push(found)
    else {
      ports.push(wish.port)
      problems.push(`${found} (setting ${wish.setting}, ${wish.variable}; 0 takes any free port)`)
    }
  }
  if (problems.length > 0) throw new CommandError(problems.join('\nborealis: '))
  return ports
}

/**
 * Below the ports that kernels give to outgoing connections (from 32768 on Linux), because one of those may be taken
 * again before the part listens on it.
 */
const anyFrom = 15_000
const anyBelow = 32_000
const anyAttempts = 50

async function anyFree(wish: PortWish, chosen: readonly number[]): Promise<number | string> {
  for (let attempt = 1; attempt <= anyAttempts; attempt++) {
    const port = randomInt(anyFrom, anyBelow)
    if (!chosen.includes(port) && (await probe({ ...wish, port })) === port) return port
  }
  return `no free port on ${wish.host} was found in ${anyAttempts} attempts`
}

async function probe({ host, port }: PortWish): Promise<number | string> {
  const server = createServer()
  try {
    server.listen({ host, port, exclusive: true })
    await once(server, 'listening')
    const address = server.address()
    return typeof address === 'object' && address !== null ? address.port : port
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EADDRINUSE') return `port ${port} on ${host} is in use by another process`
    if (code === 'EACCES') return `port ${port} on ${host} needs more rights than this user has`
    return `port ${port} on ${host} cannot be used: ${(error as Error).message}`
  } finally {
    if (server.listening) {
      server.close()
      await once(server, 'close')
    }
  }
}
