/**
 * Loaded into a server before anything else (node --import): on SIGUSR2 it collects all garbage, and writes what its V8 has
 * then to `<pid>.json` in the folder that the variable names. The same code for ours and for baselines.
 */
import { join } from 'node:path'
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { COLLECTIONS, type HeapLook, MEMORY_FOLDER } from './memory-look.js'
import { answerInFile, PRELOAD_SIGNAL } from './preload.js'

const folder = process.env[MEMORY_FOLDER]

if (folder) {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  process.on(PRELOAD_SIGNAL, () => {
    // What finalizers of the first one let go is garbage of the next.
    for (let i = 0; i < COLLECTIONS; i++) collect()
    const { used_heap_size: usedBytes, total_physical_size: residentBytes } = getHeapStatistics()
    const look: HeapLook = { usedBytes, residentBytes }
    answerInFile(join(folder, `${process.pid}.json`), JSON.stringify(look))
  })
}
