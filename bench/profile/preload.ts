/**
 * Loaded into a server before anything else (node --import): on the signal, V8's sampling profiler starts; on the next one it
 * stops, and the profile is written. Before the first signal it costs nothing. The same code for ours and for baselines.
 */
import { Session } from 'node:inspector'
import { answerInFile, PRELOAD_SIGNAL } from '../measure/preload.js'
import { PROFILE_FOLDER, profileFiles } from './profiler.js'

/** A sample costs the thread some ten microseconds, and wakes it where it waits: more of them would measure themselves. */
const INTERVAL_MICROS = 1_000

const folder = process.env[PROFILE_FOLDER]

if (folder) {
  const { started, profile } = profileFiles(folder, process.pid)
  let session: Session | null = null
  process.on(PRELOAD_SIGNAL, () => {
    if (session === null) {
      session = new Session()
      session.connect()
      session.post('Profiler.enable')
      session.post('Profiler.setSamplingInterval', { interval: INTERVAL_MICROS })
      session.post('Profiler.start')
      answerInFile(started, 'started')
      return
    }
    // The answer comes before post() returns: both ends are this thread.
    session.post('Profiler.stop', (error, answer) => {
      if (error) throw error
      answerInFile(profile, JSON.stringify(answer.profile))
    })
    session.disconnect()
    session = null
  })
}
