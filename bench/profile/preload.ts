/**
 * Loaded before a part (node --import) when a scenario is asked for a profile: writes a .cpuprofile when the process ends.
 * Only transport workers and cores are profiled: they are what is measured.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { Session } from 'node:inspector'
import { join } from 'node:path'

const folder = process.env.BOREALIS_CHILD_PROFILE
const at = process.argv.indexOf('--worker')
const INTERVAL_MICROS = 500

const part = at > 0 ? `worker-${process.argv[at + 1]}` : process.argv[2] === 'core' ? 'core' : ''

if (folder && part !== '') {
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
      writeFileSync(join(folder, `${part}.cpuprofile`), JSON.stringify(answer.profile))
    })
  })
}
