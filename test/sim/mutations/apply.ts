/** A copy of the compiled tree, into which one mutation at a time is put. The product has no switches for tests. */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Mutation } from './mutation.js'

const DIST = fileURLToPath(new URL('../../../', import.meta.url))
const ROOT = join(DIST, '..')

export class MutantTree {
  /** The path of the copy's run-child.js. */
  readonly child: string
  /** The folder of the copy's compiled tests. */
  readonly tests: string
  private readonly folder: string
  private readonly dist: string

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), 'borealis-mutant-'))
    this.dist = join(this.folder, 'dist')
    for (const part of ['protocol', 'src', 'test', 'bench'])
      cpSync(join(DIST, part), join(this.dist, part), { recursive: true })
    writeFileSync(join(this.folder, 'package.json'), '{"type":"module"}')
    symlinkSync(join(ROOT, 'node_modules'), join(this.folder, 'node_modules'))
    this.child = join(this.dist, 'test/sim/run-child.js')
    this.tests = join(this.dist, 'test')
  }

  /**
   * Applies the mutation to the tree while `work` runs. Throws if a text to replace does not occur exactly once: the
   * mutation must then be adapted to the changed code.
   */
  async with<T>({ name, edits }: Mutation, work: () => Promise<T>): Promise<T> {
    const originals = new Map<string, string>()
    try {
      for (const { file, find, replace } of edits) {
        const path = join(this.dist, file)
        const text = readFileSync(path, 'utf8')
        const count = text.split(find).length - 1
        if (count !== 1) throw new Error(`${name}: ${file} has this text ${count} times, not once: ${find}`)
        if (!originals.has(path)) originals.set(path, text)
        const broken = text.replace(find, () => replace)
        writeFileSync(path, broken)
      }
      return await work()
    } finally {
      for (const [path, text] of originals) writeFileSync(path, text)
    }
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}
