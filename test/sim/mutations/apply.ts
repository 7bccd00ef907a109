/** Makes a copy of the compiled tree with one break in it. The product itself has no switches. */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Mutation } from './mutation.js'

const DIST = fileURLToPath(new URL('../../../', import.meta.url))
const ROOT = join(DIST, '..')

export interface MutatedTree {
  /** The run-child.js of the copy. */
  child: string
  /** The compiled tests of the copy. */
  tests: string
  remove(): void
}

/** Throws where a text to replace is not there exactly once: then the mutation has to be written anew. */
export function mutate(mutation: Mutation): MutatedTree {
  const folder = mkdtempSync(join(tmpdir(), 'borealis-mutant-'))
  const remove = () => rmSync(folder, { recursive: true, force: true })
  try {
    const dist = join(folder, 'dist')
    for (const part of ['protocol', 'src', 'test']) cpSync(join(DIST, part), join(dist, part), { recursive: true })
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
    for (const { file, find, replace } of mutation.edits) {
      const path = join(dist, file)
      const text = readFileSync(path, 'utf8')
      const count = text.split(find).length - 1
      if (count !== 1) throw new Error(`${mutation.name}: ${file} has its text ${count} times: ${find}`)
      writeFileSync(
        path,
        text.replace(find, () => replace),
      )
    }
    return { child: join(dist, 'test/sim/run-child.js'), tests: join(dist, 'test'), remove }
  } catch (error) {
    remove()
    throw error
  }
}
