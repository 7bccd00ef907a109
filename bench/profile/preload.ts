/**
 * Loaded before a transport worker (node --import) when a scenario is asked for a profile: writes a .cpuprofile when the
 * process ends. Only workers are profiled: they are what is measured.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { Session } from 'node:inspector'
import { join } from 'node:path'

const folder = process.env.BOREALIS_CHILD_PROFILE
const at = process.argv.indexOf('--worker')
const INTERVAL_MICROS = 500

if (folder && at > 0) {
  const session = new Session()
  session.connect()
  session.post('Profiler.enable')
  session.post('Profiler.setSamplingInterval', { interval: INTERVAL_MICROS })
  session.post('Profiler.start')
  process.once('exit', () => {
    // The answer comes before post() returns: both ends are this thread.
    session.post('Profiler.stop', (error, answer) => {
      if (error) return
      mkdirSync(folder, { recursive: true })
      writeFileSync(join(folder, `worker-${process.argv[at + 1]}.cpuprofile`), JSON.stringify(answer.profile))
    })
  })
}
