/** A copy of the compiled tree into which one break after the other is put. The product itself has no switches. */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Mutation } from './mutation.js'

const DIST = fileURLToPath(new URL('../../../', import.meta.url))
const ROOT = join(DIST, '..')

export class MutantTree {
  /** The run-child.js of the copy. */
  readonly child: string
  /** The compiled tests of the copy. */
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
   * The break is in the tree while `work` runs, and no longer. Throws where a text to replace is not there exactly once:
   * then the mutation has to be written anew.
   */
  async with<T>({ name, edits }: Mutation, work: () => Promise<T>): Promise<T> {
    const originals = new Map<string, string>()
    try {
      for (const { file, find, replace } of edits) {
        const path = join(this.dist, file)
        const text = readFileSync(path, 'utf8')
        const count = text.split(find).length - 1
        if (count !== 1) throw new Error(`${name}: ${file} has its text ${count} times: ${find}`)
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
