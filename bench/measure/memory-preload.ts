/**
 * A module that our servers and the baselines load before all others (node --import). On SIGUSR2 it collects all garbage and
 * writes V8's memory to `<pid>.json` in the folder that the variable names.
 */
import { join } from 'node:path'
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { COLLECTIONS, type HeapReading, MEMORY_FOLDER } from './memory-probe.js'
import { answerInFile, PRELOAD_SIGNAL } from './preload.js'

const folder = process.env[MEMORY_FOLDER]

if (folder) {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  process.on(PRELOAD_SIGNAL, () => {
    // Finalizers of one collection may release objects that only the next one frees.
    for (let i = 0; i < COLLECTIONS; i++) collect()
    const { used_heap_size: usedBytes, total_physical_size: residentBytes } = getHeapStatistics()
    const reading: HeapReading = { usedBytes, residentBytes }
    answerInFile(join(folder, `${process.pid}.json`), JSON.stringify(reading))
  })
}
