import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import t from 'tap'

const LINK = /\]\(([^)#\s]+)(#[^)]*)?\)/g

t.test('every relative link of a document leads to a file', async (t) => {
  const documents = execFileSync('git', ['ls-files', '--', '*.md'], { encoding: 'utf8' }).trim().split('\n')
  t.ok(documents.includes('README.md') && documents.includes('ARCHITECTURE.md'))
  for (const document of documents) {
    const links = [...readFileSync(document, 'utf8').matchAll(LINK)].map((match) => match[1] as string)
    const broken = links.filter(
      (link) => !/^[a-z]+:/.test(link) && !existsSync(normalize(join(dirname(document), link))),
    )
    t.same(broken, [], document)
  }
})
