/** A frame cannot be encoded: the caller made it wrong. */
export class EncodeError extends RangeError {
  constructor(
    readonly code: 'out_of_range' | 'frame_too_large',
    message: string,
  ) {
    super(message)
    this.name = 'EncodeError'
  }
}
