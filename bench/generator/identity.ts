/** Devices of a run by number: nothing has to be stored to know who is who. */
const NUMBER_DIGITS = 12

/** `dev_`, 8 characters of the run, the number in base 36. */
export function deviceOf(run: string, index: number): string {
  return `dev_${run}${index.toString(36).padStart(NUMBER_DIGITS, '0')}`
}

export function indexOf(device: string): number {
  return Number.parseInt(device.slice(-NUMBER_DIGITS), 36)
}

/** Most connections from one source address: leaves each device ports for its next connections. */
export const CONNECTIONS_PER_ADDRESS = 2_000

const FIRST_ADDRESS = 2

/**
 * 127.<area>.0.2 and up: each carries so many devices. Ports are taken by address, so that runs of other areas, and what
 * they left in TIME_WAIT, do not get in the way.
 */
export function sourceAddress(index: number, area = 0): string {
  const n = FIRST_ADDRESS + Math.floor(index / CONNECTIONS_PER_ADDRESS)
  return `127.${area}.${n >> 8}.${n & 255}`
}

const FIRST_PORT = 16_000
const PORT_ROUNDS = 24

/**
 * The port of a device's n-th connection: named, so that the kernel has nothing to search. Those of the last connections
 * may still be in TIME_WAIT.
 */
export function sourcePort(index: number, nth: number): number {
  return FIRST_PORT + (nth % PORT_ROUNDS) * CONNECTIONS_PER_ADDRESS + (index % CONNECTIONS_PER_ADDRESS)
}

/** 1 to 254: 0 is where everybody else's addresses are. */
export function newArea(random = Math.random): number {
  return 1 + Math.floor(random() * 254)
}
