/** Parsers for numeric options of the tools in test/, for commander. */
import { InvalidArgumentError } from 'commander'

export function whole(minimum: number) {
  return (text: string): number => {
    const number = Number(text)
    if (!Number.isSafeInteger(number) || number < minimum)
      throw new InvalidArgumentError(`It must be an integer of at least ${minimum}.`)
    return number
  }
}
