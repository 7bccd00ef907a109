/** Options of the tools below test/: numbers as commander checks them. */
import { InvalidArgumentError } from 'commander'

export function whole(minimum: number) {
  return (text: string): number => {
    const number = Number(text)
    if (!Number.isSafeInteger(number) || number < minimum)
      throw new InvalidArgumentError(`It has to be an integer of at least ${minimum}.`)
    return number
  }
}
