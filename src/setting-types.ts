/** Types of settings that several sections use. */
import Type from 'typebox'

/** An integer of at least `minimum`. */
export const whole = (value: number, description: string, minimum = 1) =>
  Type.Integer({ minimum, default: value, description })
