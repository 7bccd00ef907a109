/** All kinds of faults. `npm run faults -- --help` lists them. */
import type { Fault } from '../fault.js'
import { clocks } from './clocks.js'
import { deviceFaults } from './devices.js'
import { diskFull } from './disk.js'
import { freezes } from './freezes.js'
import { full } from './full.js'
import { kills, terms, twoCores } from './kills.js'
import { lines } from './lines.js'
import { overflow } from './overflow.js'
import { restarts } from './restarts.js'
import { several } from './several.js'
import { sessionsLost } from './stores.js'

const overlapping = several('several', 'kills and freezes that overlap', [...kills, ...freezes])

export const faults: readonly Fault[] = [
  ...kills,
  ...terms,
  twoCores,
  ...freezes,
  ...lines,
  ...deviceFaults,
  ...restarts,
  ...clocks,
  sessionsLost,
  ...full,
  diskFull,
  overflow,
  overlapping,
]

export const faultNamed = (name: string): Fault | undefined => faults.find((fault) => fault.name === name)
