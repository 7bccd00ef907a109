/** Device ids, addresses and ports follow from the number of a device, so that a generator need not store them. */
const NUMBER_DIGITS = 12

/** `dev_`, the 8 characters of the run, the number in base 36. */
export function deviceOf(run: string, index: number): string {
  return `dev_${run}${index.toString(36).padStart(NUMBER_DIGITS, '0')}`
}

export function indexOf(device: string): number {
  return Number.parseInt(device.slice(-NUMBER_DIGITS), 36)
}

/** Most devices of one source address. Each has PORT_ROUNDS ports, one after the other, for its next connections. */
export const CONNECTIONS_PER_ADDRESS = 2_000

const FIRST_ADDRESS = 2

/**
 * The address from which a device connects: 127.<area>.0.2 and up. Runs of different areas use different addresses, so
 * their ports, also those in TIME_WAIT, do not collide.
 */
export function sourceAddress(index: number, area = 0): string {
  const n = FIRST_ADDRESS + Math.floor(index / CONNECTIONS_PER_ADDRESS)
  return `127.${area}.${n >> 8}.${n & 255}`
}

const FIRST_PORT = 16_000
const PORT_ROUNDS = 24

/**
 * The port of a device's n-th connection. A chosen port saves the kernel its search. It changes from connection to
 * connection, because the earlier ports may still be in TIME_WAIT.
 */
export function sourcePort(index: number, nth: number): number {
  return FIRST_PORT + (nth % PORT_ROUNDS) * CONNECTIONS_PER_ADDRESS + (index % CONNECTIONS_PER_ADDRESS)
}

/** A random area from 1 to 254. Area 0 is left to other programs. */
export function newArea(random = Math.random): number {
  return 1 + Math.floor(random() * 254)
}
