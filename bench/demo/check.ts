/** What the demo claims: a number that was expected and the number that was counted. */
export interface Check {
  name: string
  expected: number
  got: number
  ok: boolean
}

export class Checks {
  readonly list: Check[] = []

  equal(name: string, expected: number, got: number): void {
    this.list.push({ name, expected, got, ok: expected === got })
  }

  get ok(): boolean {
    return this.list.length > 0 && this.list.every((check) => check.ok)
  }
}
