/** All scenarios, in the order of the help. */
import type { Scenario } from '../scenario.js'
import { accept } from './accept.js'
import { broadcast } from './broadcast.js'
import { catchup } from './catchup.js'
import { connect } from './connect.js'
import { hold } from './hold.js'
import { hostile } from './hostile.js'
import { idle } from './idle.js'
import { peers } from './peers.js'
import { pipeline } from './pipeline.js'
import { profile } from './profile.js'
import { reads } from './reads.js'
import { records } from './records.js'
import { scale } from './scale.js'
import { soak } from './soak.js'
import { storm } from './storm.js'
import { unicast } from './unicast.js'
import { wire } from './wire.js'

export const scenarios: readonly Scenario[] = [
  idle,
  unicast,
  broadcast,
  connect,
  profile,
  storm,
  pipeline,
  accept,
  reads,
  catchup,
  records,
  wire,
  peers,
  soak,
  hostile,
  hold,
  scale,
]
