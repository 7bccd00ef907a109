/** The contract of Bus, Log and Table (src/nats/broker.ts) as tests that each implementation has to pass. */
import { strict as assert } from 'node:assert'
import t, { type Test } from 'tap'
import { type Broker, BrokerError } from '../../src/nats/broker.js'
import { busContract } from './bus.js'
import { consumeContract } from './consume.js'
import { logContract } from './log.js'
import { tableContract } from './table.js'
import { consumerTailContract, tailContract } from './tail.js'

export interface Ground {
  /** True on a real server, where a request without a subscriber may time out. */
  mayTimeOut: boolean
  /** The brokers of two processes with all permissions. */
  a: Broker
  b: Broker
  /** Stops the server, with kill -9 or in order, and starts it again. Resolves when both brokers have reconnected. */
  restart(kill: boolean): Promise<void>
}

export type OpenGround = (t: Test) => Promise<Ground>
export type Contract = (t: Test, open: OpenGround) => void

export function brokerContract(open: OpenGround): void {
  // The time of all tests together. Most start a server of their own, and the machine may be busy.
  t.setTimeout(120_000)
  const contracts = {
    bus: busContract,
    log: logContract,
    consume: consumeContract,
    tail: tailContract,
    'tail by a consumer': consumerTailContract,
    table: tableContract,
  }
  for (const [name, contract] of Object.entries(contracts)) {
    t.test(name, async (t) => contract(t, open))
  }
}

export const bytes = (text: string): Uint8Array => Buffer.from(text)
export const text = (body: Uint8Array | undefined): string => Buffer.from(body ?? []).toString()

/** The BrokerError with which `promise` rejects. */
export async function codeOf(promise: Promise<unknown>): Promise<BrokerError> {
  try {
    await promise
  } catch (error) {
    assert(error instanceof BrokerError, `not a BrokerError: ${String(error)}`)
    return error
  }
  throw new Error('the promise did not reject')
}

/** Collects the items that a callback gets. until(count) resolves when there are `count` of them. */
export class Collected<T> {
  readonly all: T[] = []
  #waiting: { count: number; resolve: () => void }[] = []

  readonly add = (item: T): void => {
    this.all.push(item)
    this.#waiting = this.#waiting.filter(({ count, resolve }) => {
      if (this.all.length < count) return true
      resolve()
      return false
    })
  }

  async until(count: number): Promise<T[]> {
    if (this.all.length < count) {
      await new Promise<void>((resolve) => this.#waiting.push({ count, resolve }))
    }
    return this.all
  }
}
