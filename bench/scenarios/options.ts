/** Options that several scenarios have in common. */
import Type from 'typebox'

/** Most devices of one run: 56 generators with 18,000 devices each. */
const CONNECTIONS_MAX = 1_008_000

export const connections = (value = 10_000) =>
  Type.Integer({ default: value, minimum: 1, maximum: CONNECTIONS_MAX, description: 'number of connected devices' })

export const workers = Type.Integer({
  default: 0,
  minimum: 0,
  maximum: 128,
  description: 'number of transport workers; 0: one for each 15,000 connections',
})

export const generators = Type.Integer({
  default: 1,
  minimum: 1,
  maximum: 128,
  description: 'least number of generator processes; each holds up to 18,000 connections',
})

export const rounds = (value = 3) =>
  Type.Integer({
    default: value,
    minimum: 1,
    maximum: 21,
    description: 'number of rounds of each side; the result has the medians',
  })

export const rate = (atMax = '') =>
  Type.Union([Type.Literal('max'), Type.Integer({ minimum: 1, maximum: 1_000_000 })], {
    default: 'max',
    description: `messages a second; max: as fast as answers return${atMax}`,
  })

export const window = Type.Integer({
  default: 2_000,
  minimum: 1,
  maximum: 65_536,
  description: 'with --rate max: number of unanswered messages',
})

export const inFlight = Type.Integer({
  default: 512,
  minimum: 1,
  maximum: 8_192,
  description: 'most handshakes in progress at a time',
})

export const messages = (load = '') =>
  Type.Integer({
    default: 20,
    minimum: 1,
    maximum: 10_000,
    description: `messages of each round${load}, one after the other`,
  })
