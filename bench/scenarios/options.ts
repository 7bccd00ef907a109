/** Options that several scenarios share. */
import Type from 'typebox'

/** Most devices of one run: 56 generators of 18,000. */
const CONNECTIONS_MAX = 1_008_000

export const connections = (value = 10_000) =>
  Type.Integer({ default: value, minimum: 1, maximum: CONNECTIONS_MAX, description: 'devices that are connected' })

export const workers = Type.Integer({
  default: 0,
  minimum: 0,
  maximum: 128,
  description: 'transport workers; 0: one for each 15,000 connections',
})

export const generators = Type.Integer({
  default: 1,
  minimum: 1,
  maximum: 128,
  description: 'generator processes, at least; each holds up to 18,000 connections',
})

export const rounds = (value = 3) =>
  Type.Integer({ default: value, minimum: 1, maximum: 21, description: 'rounds of each side; medians count' })

export const rate = (atMax = '') =>
  Type.Union([Type.Literal('max'), Type.Integer({ minimum: 1, maximum: 1_000_000 })], {
    default: 'max',
    description: `messages a second; max: as many as come back${atMax}`,
  })

export const window = Type.Integer({
  default: 2_000,
  minimum: 1,
  maximum: 65_536,
  description: 'with --rate max: messages under way',
})

export const inFlight = Type.Integer({
  default: 512,
  minimum: 1,
  maximum: 8_192,
  description: 'handshakes under way, most',
})

export const messages = (load = '') =>
  Type.Integer({
    default: 20,
    minimum: 1,
    maximum: 10_000,
    description: `of each round${load}, one behind the other`,
  })
