import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Logger } from '../../observe/log.js'
import type { BodyBudget } from './body-budget.js'

/** The services that the calls of every listener carry. */
export interface BaseContext {
  bodies: BodyBudget
  log: Logger
}

/** One request on its way through the steps of a flow. */
export interface HttpCall<C extends BaseContext> {
  context: C
  request: FastifyRequest
  reply: FastifyReply
}
