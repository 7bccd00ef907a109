/** A frame that cannot be sent: a fault of the caller that made it. */
export class EncodeError extends RangeError {
  constructor(
    readonly code: 'out_of_range' | 'frame_too_large',
    message: string,
  ) {
    super(message)
    this.name = 'EncodeError'
  }
}
