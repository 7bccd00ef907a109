/**
 * Wall clocks that jump an hour ahead or behind while the part runs, and later back. No message expires before its time,
 * and a push with ttl 0s reaches every connected device.
 */
import type { PartName } from '../../../bench/system/local-system.js'
import { between } from '../../sim/random.js'
import type { Fault } from '../fault.js'

const HOUR_MS = 3_600_000
const DURATION_MS = [3_000, 8_000] as const

const skewing = (part: PartName): Fault => ({
  name: `${part}-clock`,
  summary: `the clock of the ${part} is an hour ahead or behind for some seconds`,
  keepsConnections: true,
  inject: (rig, random) => {
    const aheadMs = random() < 0.5 ? HOUR_MS : -HOUR_MS
    rig.skew(part, aheadMs)
    return {
      description: `the clock of the ${part} is an hour ${aheadMs > 0 ? 'ahead' : 'behind'}`,
      durationMs: between(random, DURATION_MS),
      heal: () => rig.skew(part, 0),
    }
  },
})

const skewingDevices: Fault = {
  name: 'device-clock',
  summary: 'the clocks of half of the devices are an hour ahead or behind for some seconds',
  keepsConnections: true,
  inject: async ({ driver }, random) => {
    const aheadMs = random() < 0.5 ? HOUR_MS : -HOUR_MS
    await driver.call('skewClocks', { share: 0.5, aheadMs })
    return {
      description: `the clocks of half of the devices are an hour ${aheadMs > 0 ? 'ahead' : 'behind'}`,
      durationMs: between(random, DURATION_MS),
      heal: () => driver.call('skewClocks', { share: 0, aheadMs: 0 }),
    }
  },
}

export const clocks: Fault[] = [skewing('core'), skewing('transport'), skewingDevices]
