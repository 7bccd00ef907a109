/**
 * Counts the uses of enrolment keys in the record of their fleet, before the device gets a token. The write is a
 * compare-and-set. One write counts all enrolments of a fleet that wait in this process, so a roll-out of many devices costs
 * one write for each batch.
 *
 * A limit is never exceeded, however many cores enrol devices. It may be reached early, because an enrolment also counts if
 * its answer, or the answer to its write, is lost.
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

/** Most enrolments that one write counts. */
const BATCH_MAX = 512
/** Most enrolments of a fleet that wait; further ones are refused. */
const WAITING_MAX = 4_096
/** Attempts of a write that loses against other cores, in addition to the table's own. */
const ATTEMPTS_MAX = 10
const JITTER_MS = 50

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
      const enrolment = { key, resolve, reject }
      if (!waiting) {
        this.fleets.set(fleet, [enrolment])
        void this.drain(fleet)
      } else if (waiting.length >= WAITING_MAX) reject(new CodedError('overloaded'))
      else waiting.push(enrolment)
    })
  }

  private async drain(fleet: string): Promise<void> {
    for (;;) {
      // Enrolments of the same turn join the batch.
      await Promise.resolve()
      const waiting = this.fleets.get(fleet) ?? []
      const batch = waiting.splice(0, BATCH_MAX)
      if (batch.length === 0) {
        this.fleets.delete(fleet)
        return
      }
      try {
        const refusals = await this.countBatch(fleet, batch)
        batch.forEach((enrolment, index) => {
          const refusal = refusals[index]
          if (refusal) enrolment.reject(refusal)
          else enrolment.resolve()
        })
      } catch (error) {
        for (const enrolment of batch) enrolment.reject(error)
      }
    }
  }

  /** Returns for each enrolment of the batch the reason of its refusal; null: it is counted. */
  private async countBatch(fleet: string, batch: readonly Waiting[]): Promise<(CodedError | null)[]> {
    for (let attempt = 1; ; attempt++) {
      let refusals: (CodedError | null)[] = []
      try {
        const record = await this.records.update(fleet, (before) => {
          const keys = new Map(enrolmentKeysOf(before).map((key) => [key.id, { ...key }]))
          refusals = batch.map(({ key }) => this.countUse(keys.get(key)))
          return withEnrolmentKeys(before, [...keys.values()])
        })
        if (!record) throw new CodedError('bad_enrolment_key')
        return refusals
      } catch (error) {
        const isLost = error instanceof BrokerError && error.code === 'wrong_last_sequence'
        if (!isLost || attempt === ATTEMPTS_MAX) throw error
        await sleep(this.clock, randomInt(JITTER_MS) * attempt)
      }
    }
  }

  /** Returns the reason of the refusal; null: the use is counted. */
  private countUse(key: EnrolmentKey | undefined): CodedError | null {
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
