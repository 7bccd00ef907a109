/**
 * A module that our servers and the baselines load before all others (node --import). The first signal starts V8's sampling
 * profiler. The next one stops it and writes the profile. Before the first signal it costs nothing.
 */
import { Session } from 'node:inspector'
import { answerInFile, PRELOAD_SIGNAL } from '../measure/preload.js'
import { PROFILE_FOLDER, profileFiles } from './profiler.js'

/** A sample costs the thread some ten microseconds, and wakes it if it waits. A shorter interval would distort the profile. */
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
    // The session is in this thread, so it calls back before post() returns.
    session.post('Profiler.stop', (error, answer) => {
      if (error) throw error
      answerInFile(profile, JSON.stringify(answer.profile))
    })
    session.disconnect()
    session = null
  })
}
