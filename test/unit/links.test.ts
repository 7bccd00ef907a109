import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import t from 'tap'

const LINK = /\]\(([^)#\s]*)(?:#([^)\s]*))?\)/g

const documents = execFileSync('git', ['ls-files', '--', '*.md'], { encoding: 'utf8' }).trim().split('\n')
t.ok(documents.includes('README.md') && documents.includes('ARCHITECTURE.md'))

for (const document of documents) {
  const links = [...readFileSync(document, 'utf8').matchAll(LINK)]
    .map(([, path = '', anchor]) => ({ path, anchor }))
    .filter(({ path }) => !/^[a-z]+:/.test(path))
    .map(({ path, anchor }) => ({ target: path === '' ? document : normalize(join(dirname(document), path)), anchor }))

  t.test(`${document}: each relative link leads to a file`, async (t) => {
    const broken = links.filter(({ target }) => !existsSync(target)).map(({ target }) => target)
    t.same(broken, [])
  })

  t.test(`${document}: each link to a section leads to a heading`, async (t) => {
    const broken = links
      .filter(({ target, anchor }) => anchor !== undefined && target.endsWith('.md') && existsSync(target))
      .filter(({ target, anchor }) => !anchorsOf(target).has(anchor ?? ''))
      .map(({ target, anchor }) => `${target}#${anchor}`)
    t.same(broken, [])
  })
}

/** The anchors that GitHub gives the headings of a document: the second heading of the same text ends in -1, and so on. */
function anchorsOf(document: string): Set<string> {
  const text = readFileSync(document, 'utf8').replaceAll(/^```[\s\S]*?^```/gm, '')
  const counts = new Map<string, number>()
  const anchors = new Set<string>()
  for (const [, heading = ''] of text.matchAll(/^#{1,6} +(.+?)\s*$/gm)) {
    const words = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase()
    const slug = words.replaceAll(/[^\p{L}\p{N}_ -]/gu, '').replaceAll(' ', '-')
    const count = counts.get(slug) ?? 0
    counts.set(slug, count + 1)
    anchors.add(count === 0 ? slug : `${slug}-${count}`)
  }
  return anchors
}
