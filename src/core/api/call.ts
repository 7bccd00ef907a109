import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Logger } from '../../observe/log.js'
import type { BodyBudget } from './body-budget.js'

/** What every listener's calls carry. */
export interface BaseContext {
  bodies: BodyBudget
  log: Logger
}

/** One request on its way through a flow. */
export interface HttpCall<F extends BaseContext> {
  context: F
  request: FastifyRequest
  reply: FastifyReply
}
