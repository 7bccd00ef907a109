/** The promises of a year, and what was found against them. */

export const CHECKS = {
  lost: 'Every target of an accepted message reached its device, or ended for a reason that its sender can read.',
  ends: 'Every target was accepted once and ended once.',
  duplicates: 'No app saw a message twice.',
  isolation: 'No app saw a message that was for another.',
  refusals: 'Nothing was refused without a reason.',
  hands: 'Nobody had to lend a hand: no device gave up, and every process came up by itself.',
  clocks: 'No wrong clock ended a message before its time.',
  tokens: 'Every device that came back in time has a token that is good, by itself.',
  keys: 'Every key was rotated as often as planned, and retired once nothing needed it.',
  counters: 'The counters of a project are what its messages are.',
  room: 'No stream is larger than its life allows, and nothing is left that nobody is owed.',
  acts: 'Everything that the calendar has for this year took place.',
  internal: 'No part logged an error or threw.',
} as const
export type CheckName = keyof typeof CHECKS

export interface Check {
  name: CheckName
  promise: string
  ok: boolean
  /** How often it was broken. */
  count: number
  /** The first of them. */
  found: string[]
}

const FOUND_MAX = 10

/** Collects what is wrong; the first few of each check are told. */
export class Findings {
  private readonly found = new Map<CheckName, { count: number; first: string[] }>()

  constructor(private readonly tell: (text: string) => void = () => undefined) {}

  wrong(check: CheckName, what: string): void {
    const found = this.found.get(check) ?? { count: 0, first: [] }
    found.count++
    if (found.first.length < FOUND_MAX) {
      found.first.push(what)
      this.tell(`${check}: ${what}`)
    }
    this.found.set(check, found)
  }

  count(check: CheckName): number {
    return this.found.get(check)?.count ?? 0
  }

  all(): Check[] {
    return Object.entries(CHECKS).map(([key, promise]) => {
      const name = key as CheckName
      const { count = 0, first = [] } = this.found.get(name) ?? {}
      return { name, promise, ok: count === 0, count, found: first }
    })
  }
}
