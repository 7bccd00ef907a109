/** Parses the numeric options of the tools below test/ for commander. */
import { InvalidArgumentError } from 'commander'

export function whole(minimum: number) {
  return (text: string): number => {
    const number = Number(text)
    if (!Number.isSafeInteger(number) || number < minimum)
      throw new InvalidArgumentError(`It must be an integer of at least ${minimum}.`)
    return number
  }
}
