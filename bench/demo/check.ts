/** The checks of the demo: each compares a number that was counted with the number that was expected. */
export interface Check {
  /** `<case>: <counted quantity>` */
  name: string
  expected: number
  got: number
  ok: boolean
}

export class Checks {
  readonly list: Check[] = []
  #case = ''

  /** Names the case to which the following checks belong. */
  begin(name: string): void {
    this.#case = name
  }

  equal(quantity: string, expected: number, got: number): void {
    this.list.push({ name: `${this.#case}: ${quantity}`, expected, got, ok: expected === got })
  }

  get ok(): boolean {
    return this.list.length > 0 && this.list.every((check) => check.ok)
  }
}

export function checkLine({ name, expected, got, ok }: Check): string {
  return ok ? `ok    ${name}: ${got}` : `FAIL  ${name}: got ${got}, expected ${expected}`
}

/** The last lines of the demo. They repeat the failed checks, which may be far above. */
export function summaryLines(checks: readonly Check[], seconds: number): string[] {
  const failed = checks.filter(({ ok }) => !ok)
  return [
    `${checks.length - failed.length} of ${checks.length} checks ok, ${seconds} s`,
    ...failed.map((check) => checkLine(check)),
  ]
}
