/**
 * Counts the uses of enrolment keys in the record of their fleet, by compare-and-set, before a token is given. Enrolments of
 * one fleet that wait in this process are counted by one write, so that a roll-out of many devices is a write for each batch.
 *
 * A limit is never exceeded, whatever the number of cores. It may be used up early: an enrolment whose answer is lost was
 * counted, and a write whose answer is lost may have been.
 */
import { randomInt } from 'node:crypto'
import { CodedError } from '../../../../protocol/errors.js'
import { type Clock, sleep } from '../../../clock.js'
import { BrokerError } from '../../../nats/broker.js'
import {
  type EnrolmentKey,
  enrolmentKeysOf,
  type FleetRecord,
  type RecordTable,
  withEnrolmentKeys,
} from '../../../store/tenants.js'
import { requireUsable } from './enrolment.js'

/** Most enrolments counted by one write. */
const BATCH_MAX = 512
/** Most that wait for one fleet; more are refused. */
const WAITING_MAX = 4_096
/** How often a write that lost against other cores is repeated, beyond what the table does by itself. */
const ATTEMPTS_MAX = 10
const SPREAD_MS = 50

interface Waiting {
  key: string
  resolve(): void
  reject(error: unknown): void
}

export class EnrolmentCounter {
  private readonly fleets = new Map<string, Waiting[]>()

  constructor(
    private readonly records: RecordTable<FleetRecord>,
    private readonly clock: Clock,
  ) {}

  /** Resolves when the use is counted. Throws CodedError `bad_enrolment_key` or `overloaded`; rejects with BrokerError. */
  use(fleet: string, key: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiting = this.fleets.get(fleet)
      const one = { key, resolve, reject }
      if (!waiting) {
        this.fleets.set(fleet, [one])
        void this.work(fleet)
      } else if (waiting.length >= WAITING_MAX) reject(new CodedError('overloaded'))
      else waiting.push(one)
    })
  }

  private async work(fleet: string): Promise<void> {
    for (;;) {
      // What comes in this turn goes along.
      await Promise.resolve()
      const waiting = this.fleets.get(fleet) ?? []
      const batch = waiting.splice(0, BATCH_MAX)
      if (batch.length === 0) {
        this.fleets.delete(fleet)
        return
      }
      try {
        const refusals = await this.count(fleet, batch)
        batch.forEach((one, index) => {
          const refusal = refusals[index]
          if (refusal) one.reject(refusal)
          else one.resolve()
        })
      } catch (error) {
        for (const one of batch) one.reject(error)
      }
    }
  }

  /** For each of the batch why it was refused; null: it was counted. */
  private async count(fleet: string, batch: readonly Waiting[]): Promise<(CodedError | null)[]> {
    for (let attempt = 1; ; attempt++) {
      let refusals: (CodedError | null)[] = []
      try {
        const record = await this.records.update(fleet, (before) => {
          const keys = new Map(enrolmentKeysOf(before).map((key) => [key.id, { ...key }]))
          refusals = batch.map(({ key }) => this.take(keys.get(key)))
          return withEnrolmentKeys(before, [...keys.values()])
        })
        if (!record) throw new CodedError('bad_enrolment_key')
        return refusals
      } catch (error) {
        const isLost = error instanceof BrokerError && error.code === 'wrong_last_sequence'
        if (!isLost || attempt === ATTEMPTS_MAX) throw error
        await sleep(this.clock, randomInt(SPREAD_MS) * attempt)
      }
    }
  }

  private take(key: EnrolmentKey | undefined): CodedError | null {
    try {
      if (!key) throw new CodedError('bad_enrolment_key')
      requireUsable(key, this.clock.now())
      key.uses++
      return null
    } catch (error) {
      if (error instanceof CodedError) return error
      throw error
    }
  }
}
