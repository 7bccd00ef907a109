/** The scenarios in the order in which help lists them. */
import type { Scenario } from '../scenario.js'

export const scenarios: readonly Scenario[] = []
