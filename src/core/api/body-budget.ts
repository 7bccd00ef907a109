import type { FastifyReply } from 'fastify'
import { CodedError } from '../../../protocol/errors.js'

export interface BodyLimits {
  /** The longest body with one message. */
  bodyBytesMax: number
  /** The longest body with many messages. */
  batchBytesMax: number
  /** All large bodies together. */
  largeBodiesBytesMax: number
}

/** Bounds the memory of the large bodies of all requests in flight. */
export class BodyBudget {
  private taken = 0

  constructor(readonly limits: BodyLimits) {}

  /** Reserves the bytes until the request is answered or its connection is closed. Throws CodedError `overloaded`. */
  take(reply: FastifyReply, bytes: number): void {
    if (this.taken + bytes > this.limits.largeBodiesBytesMax) throw new CodedError('overloaded')
    this.taken += bytes
    reply.raw.once('close', () => {
      this.taken -= bytes
    })
  }
}
