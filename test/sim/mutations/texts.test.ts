/** A mutation has no effect if its text is no longer in the product. It must then be adapted to the changed code. */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { families } from './index.js'

const DIST = fileURLToPath(new URL('../../../', import.meta.url))

t.test('the text of every mutation occurs exactly once in the product', async (t) => {
  const texts = new Map<string, string>()
  for (const { name, edits } of families.flatMap(({ mutations }) => mutations)) {
    for (const { file, find, replace } of edits) {
      const text = texts.get(file) ?? readFileSync(`${DIST}${file}`, 'utf8')
      t.equal(text.split(find).length - 1, 1, `${name}: ${file}`)
      texts.set(file, text)
      t.not(find, replace, name)
    }
  }
})

t.test('every test that a mutation or a family names exists', async (t) => {
  const named = families.flatMap(({ mutations, tests }) => [...tests, ...mutations.flatMap(({ test }) => test ?? [])])
  for (const test of new Set(named)) t.ok(existsSync(`${DIST}test/${test}`), test)
})
