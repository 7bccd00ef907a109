import type { FastifyReply } from 'fastify'
import { CodedError } from '../../../protocol/errors.js'

/** Longest body of a request with one message, of one with many, and what large ones may take all together. */
export interface BodyLimits {
  bodyBytesMax: number
  batchBytesMax: number
  largeBodiesBytesMax: number
}

/** What large bodies may take up, all together, while their requests are under way. */
export class BodyBudget {
  private taken = 0

  constructor(readonly limits: BodyLimits) {}

  /** Until the request is answered or gone. Throws CodedError `overloaded`. */
  take(reply: FastifyReply, bytes: number): void {
    if (this.taken + bytes > this.limits.largeBodiesBytesMax) throw new CodedError('overloaded')
    this.taken += bytes
    reply.raw.once('close', () => {
      this.taken -= bytes
    })
  }
}
