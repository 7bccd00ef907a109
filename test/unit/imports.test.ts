import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { type SourceFile, sourceFiles, surroundingsUsed } from '../support/tree.js'

/** The rules of the tree (ARCHITECTURE.md, "map of the code"), kept by reading the imports. */

/** What each part may import of ours: folders end in `/`. The first rule that matches a file is its rule. */
const rules: readonly { part: string; may: readonly string[] }[] = [
  { part: 'protocol/', may: ['protocol/'] },
  { part: 'src/clock.ts', may: [] },
  { part: 'src/keyring.ts', may: [] },
  { part: 'src/device-token.ts', may: ['protocol/', 'src/keyring.ts'] },
  { part: 'src/observe/', may: ['src/observe/', 'src/clock.ts'] },
  { part: 'src/device/', may: ['protocol/', 'src/observe/', 'src/clock.ts', 'src/device/'] },
  { part: 'src/fabric/', may: ['protocol/', 'src/observe/', 'src/clock.ts', 'src/fabric/'] },
  { part: 'src/store/', may: ['protocol/', 'src/clock.ts', 'src/fabric/fabric.ts', 'src/store/'] },
  { part: 'src/core/', may: ['src/core/', ...shared()] },
  { part: 'src/transport/', may: ['src/transport/', ...shared()] },
  { part: 'src/config.ts', may: ['src/'] },
  { part: 'src/config/', may: [] },
  { part: 'src/cli.ts', may: ['src/'] },
  { part: 'src/cli/', may: ['src/', 'protocol/'] },
]

function shared(): string[] {
  const files = ['src/clock.ts', 'src/keyring.ts', 'src/device-token.ts', 'src/fabric/fabric.ts']
  return ['protocol/', 'src/observe/', 'src/store/', ...files]
}

/** Packages that one place keeps to itself, so that the place can be replaced. */
const confined: readonly { name: string; to: string }[] = [
  { name: 'nats', to: 'src/fabric/' },
  { name: 'uWebSockets.js', to: 'src/transport/listener.ts' },
  { name: 'fastify', to: 'src/core/http/' },
  { name: 'commander', to: 'src/cli' },
  { name: 'pino', to: 'src/observe/' },
  { name: 'ws', to: 'src/device/' },
]

/** What may ask the machine for the time, a timer or chance, and why. All else takes Clock and a random source. */
const adapters: Readonly<Record<string, string>> = {
  'src/clock.ts': 'is the clock',
  'src/fabric/': 'drives a real connection to NATS',
  'src/device/client.ts': 'the front door of the library: gives the machine its defaults',
  'src/device/ws-dial.ts': 'drives a real WebSocket',
  'src/cli/': 'composes processes; the composition root hands out the clock',
}

const linesMax = 400

const sources = sourceFiles(['protocol', 'src'])
const everything = sourceFiles(['protocol', 'src', 'scripts', 'bench', 'test'].filter(present))

function present(folder: string): boolean {
  return readdirSync('.').includes(folder)
}

const inside = (path: string, place: string) => path === place || (path.startsWith(place) && !place.endsWith('.ts'))
const isOurs = (name: string) => /^(src|protocol|bench|test)\//.test(name)

t.test('every source file has a rule, and keeps to it', async (t) => {
  t.ok(sources.length > 20, 'the tree was read')
  for (const file of sources) {
    const rule = rules.find(({ part }) => inside(file.path, part))
    if (rule === undefined) {
      t.fail(`${file.path} has no rule: add its part to the rules, with a reason`)
      continue
    }
    const wrong = file.imports.filter((name) => isOurs(name) && !rule.may.some((place) => inside(name, place)))
    t.same(wrong, [], `${file.path} imports only what ${rule.part} may`)
  }
})

t.test('core and transport never import each other', async (t) => {
  const between = (from: string, to: string) =>
    sources.filter(({ path, imports }) => path.startsWith(from) && imports.some((name) => name.startsWith(to)))
  t.same(between('src/core/', 'src/transport/'), [])
  t.same(between('src/transport/', 'src/core/'), [])
})

t.test('packages stay where they belong', async (t) => {
  for (const { name, to } of confined) {
    const users = sources.filter(({ imports }) => imports.some((one) => one === name || one.startsWith(`${name}/`)))
    t.same(
      users.map(({ path }) => path).filter((path) => !path.startsWith(to)),
      [],
      `${name} is imported only under ${to}`,
    )
  }
})

t.test('every package that is imported is a declared dependency', async (t) => {
  const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as Record<string, Record<string, string>>
  const declared = new Set(Object.keys(manifest.dependencies ?? {}))
  for (const { path, imports } of sources) {
    const packages = imports.filter((name) => !isOurs(name) && !name.startsWith('node:'))
    t.same(
      packages.map(packageOf).filter((name) => !declared.has(name)),
      [],
      path,
    )
  }
})

function packageOf(name: string): string {
  return name
    .split('/')
    .slice(0, name.startsWith('@') ? 2 : 1)
    .join('/')
}

t.test('time and chance come in as arguments', async (t) => {
  for (const file of sources) {
    if (Object.keys(adapters).some((place) => inside(file.path, place))) continue
    t.same(surroundingsUsed(file), [], file.path)
  }
})

t.test('the check of time and chance sees what it looks for', async (t) => {
  const text =
    'const a = Date.now()\n// Date.now()\nsetTimeout(f, "Math.random")\nnew Date()\nnew Date(5)\nclock.now()\n'
  const file: SourceFile = { path: 'x.ts', text, lines: 6, imports: [] }
  t.same(surroundingsUsed(file), ['1: Date.now', '3: setTimeout', '4: new Date()'])
})

t.test(`no file is longer than ${linesMax} lines`, async (t) => {
  t.same(
    everything.filter(({ lines }) => lines > linesMax).map(({ path, lines }) => `${path}: ${lines}`),
    [],
  )
})

t.test('the top level holds what design names, and nothing else', async (t) => {
  const allowed = new Set([
    ...['.ci', 'bench', 'deploy', 'docs', 'examples', 'protocol', 'scripts', 'src', 'test'],
    ...['.dockerignore', '.gitignore', '.npmrc', 'biome.json', 'package-lock.json', 'package.json', 'tsconfig.json'],
    ...['ARCHITECTURE.md', 'Dockerfile', 'LICENSE', 'README.md', 'SECURITY.md'],
    // Not in the repository: made by the tools.
    ...['.borealis', '.git', '.tap', 'dist', 'node_modules'],
  ])
  t.same(
    readdirSync('.').filter((name) => !allowed.has(name) && !name.endsWith('.log')),
    [],
  )
  t.same(
    readdirSync('src').filter((name) => !sourceNames.has(name)),
    [],
  )
})

const sourceNames = new Set([
  ...['cli', 'config', 'core', 'device', 'fabric', 'observe', 'store', 'transport'],
  ...['cli.ts', 'clock.ts', 'config.ts', 'device-token.ts', 'keyring.ts'],
])
