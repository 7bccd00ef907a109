/** A mutation whose text has gone from the product breaks nothing: it has to be written anew with the code it breaks. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { families } from './index.js'

const DIST = fileURLToPath(new URL('../../../', import.meta.url))

t.test('every mutation finds its text exactly once', async (t) => {
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
