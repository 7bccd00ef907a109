import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { circlesIn, type SourceFile, sourceFiles, surroundingsUsed } from '../support/tree.js'

/** The imports keep to the rules of the tree (ARCHITECTURE.md, "A map of the code"). */

/** Small modules without dependencies, for every part. */
const common = [
  'src/clock.ts',
  'src/collections.ts',
  'src/networks.ts',
  'src/processors.ts',
  'src/type-guards.ts',
  'src/setting-types.ts',
  'src/stop-stack.ts',
]

/** Modules that core and transport share. */
const shared = [
  ...['protocol/', 'src/observe/', 'src/store/'],
  ...[...common, 'src/keyring.ts', 'src/device-token.ts', 'src/nats/broker.ts'],
]
const core = (...rooms: string[]) => [...shared, ...rooms.map((room) => `src/core/${room}`)]
const transport = (...rooms: string[]) => [...shared, ...rooms.map((room) => `src/transport/${room}`)]
const device = (...rooms: string[]) => ['protocol/', 'src/observe/', ...common, ...rooms.map((r) => `src/device/${r}`)]

/**
 * The imports that each part may have from this repository. Folders end in `/`. The first rule that matches a file
 * applies. Rooms of core, transport and device stand in the order of their dependencies: each may import only rooms
 * above it.
 */
const rules: readonly { part: string; may: readonly string[] }[] = [
  { part: 'protocol/', may: ['protocol/'] },
  ...common.map((part) => ({ part, may: [] })),
  { part: 'src/keyring.ts', may: [] },
  { part: 'src/device-token.ts', may: ['protocol/', 'src/keyring.ts'] },
  { part: 'src/observe/', may: ['src/observe/', 'src/clock.ts'] },
  { part: 'src/nats/', may: ['protocol/', 'src/observe/', ...common, 'src/nats/'] },
  { part: 'src/store/', may: ['protocol/', ...common, 'src/keyring.ts', 'src/nats/broker.ts', 'src/store/'] },

  // The domain knows neither HTTP nor NATS: every API and NATS ingress speak it.
  { part: 'src/core/domain/', may: core('domain/') },
  { part: 'src/core/metrics.ts', may: core('domain/') },
  { part: 'src/core/settings.ts', may: ['src/setting-types.ts'] },
  { part: 'src/core/cluster/', may: core('domain/', 'metrics.ts', 'cluster/') },
  { part: 'src/core/delivery/', may: core('domain/', 'metrics.ts', 'settings.ts', 'cluster/', 'delivery/') },
  { part: 'src/core/tenants/', may: core('domain/', 'cluster/', 'tenants/') },
  {
    part: 'src/core/outcomes/',
    may: core('domain/', 'metrics.ts', 'settings.ts', 'cluster/', 'tenants/', 'outcomes/'),
  },
  { part: 'src/core/devices/', may: core('domain/', 'cluster/', 'tenants/', 'devices/') },
  { part: 'src/core/ingress/', may: core('domain/', 'tenants/', 'ingress/') },
  { part: 'src/core/api/', may: core('domain/', 'tenants/', 'outcomes/', 'devices/', 'api/') },
  { part: 'src/core/', may: core('') },

  { part: 'src/transport/settings.ts', may: ['src/setting-types.ts'] },
  { part: 'src/transport/limiter.ts', may: [] },
  { part: 'src/transport/metrics.ts', may: transport() },
  { part: 'src/transport/socket/', may: transport('settings.ts', 'socket/') },
  { part: 'src/transport/session/', may: transport('limiter.ts', 'socket/', 'session/') },
  { part: 'src/transport/turns.ts', may: transport('session/now.ts') },
  {
    part: 'src/transport/groups/',
    may: transport('limiter.ts', 'metrics.ts', 'turns.ts', 'socket/', 'session/', 'groups/'),
  },
  {
    part: 'src/transport/delivery/',
    may: transport('limiter.ts', 'metrics.ts', 'turns.ts', 'socket/', 'session/', 'groups/', 'delivery/'),
  },
  {
    part: 'src/transport/admission/',
    may: transport(
      ...['settings.ts', 'limiter.ts', 'metrics.ts', 'turns.ts'],
      ...['socket/', 'session/', 'groups/', 'delivery/', 'admission/'],
    ),
  },
  {
    part: 'src/transport/upkeep/',
    may: transport(
      ...['settings.ts', 'limiter.ts', 'metrics.ts', 'turns.ts'],
      ...['socket/', 'session/', 'groups/', 'delivery/', 'admission/', 'upkeep/'],
    ),
  },
  { part: 'src/transport/', may: transport('') },

  { part: 'src/device/state/', may: device('errors.ts', 'settings.ts', 'data.ts', 'notification.ts', 'state/') },
  { part: 'src/device/connection/', may: device('') },
  { part: 'src/device/', may: device('') },

  { part: 'src/config/', may: ['src/'] },
  { part: 'src/cli.ts', may: ['src/'] },
  { part: 'src/cli/', may: ['src/', 'protocol/'] },
]

/** Packages that only one place imports, so that the place can be replaced. */
const confined: readonly { name: string; to: string }[] = [
  { name: 'nats', to: 'src/nats/' },
  { name: 'uWebSockets.js', to: 'src/transport/socket/listener.ts' },
  { name: 'fastify', to: 'src/core/api/' },
  { name: 'commander', to: 'src/cli' },
  { name: 'pino', to: 'src/observe/' },
  { name: 'ws', to: 'src/device/' },
]

/** Files that may use the machine's time, timers and random source, with the reason. All others take them as arguments. */
const adapters: Readonly<Record<string, string>> = {
  'src/clock.ts': 'is the clock',
  'src/nats/': 'drives a real connection to NATS',
  'src/device/client.ts': 'is the entry of the library and gives the state machine its defaults',
  'src/device/connection/ws-dial.ts': 'drives a real WebSocket',
  'src/cli/': 'composes processes; the composition root hands out the clock',
}

const sources = sourceFiles(['protocol', 'src'])

const inside = (path: string, place: string) => path === place || (path.startsWith(place) && !place.endsWith('.ts'))
const isOurs = (name: string) => /^(src|protocol|bench|test)\//.test(name)

t.test('every source file has a rule, and imports only what its rule allows', async (t) => {
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

t.test('a confined package is imported only in its place', async (t) => {
  for (const { name, to } of confined) {
    const users = sources.filter(({ imports }) => imports.some((one) => one === name || one.startsWith(`${name}/`)))
    t.same(
      users.map(({ path }) => path).filter((path) => !path.startsWith(to)),
      [],
      `${name} is imported only under ${to}`,
    )
  }
})

t.test('every imported package is a declared dependency', async (t) => {
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

t.test('only the adapters use the time, timers and random source of the machine', async (t) => {
  for (const file of sources) {
    if (Object.keys(adapters).some((place) => inside(file.path, place))) continue
    t.same(surroundingsUsed(file), [], file.path)
  }
})

t.test(
  'the check of time and random source finds each use, and no use in comments, strings and arguments',
  async (t) => {
    const text =
      'const a = Date.now()\n// Date.now()\nsetTimeout(f, "Math.random")\nnew Date()\nnew Date(5)\nclock.now()\n'
    const file: SourceFile = { path: 'x.ts', text, lines: 6, imports: [] }
    t.same(surroundingsUsed(file), ['1: Date.now', '3: setTimeout', '4: new Date()'])
  },
)

t.test('files import each other without a circle, types included', async (t) => {
  const files = [...sources, ...sourceFiles(['bench'])]
  t.same(circlesIn(new Map(files.map(({ path, imports }) => [path, imports.filter(isOurs)]))), [])
})

t.test('the rooms of core, transport and device import each other without a circle', async (t) => {
  for (const part of ['src/core/', 'src/transport/', 'src/device/', 'src/']) {
    const roomOf = (path: string) => {
      const [room = ''] = path.slice(part.length).split('/')
      return `${part}${room}`
    }
    const rooms = new Map<string, string[]>()
    for (const { path, imports } of sources.filter(({ path }) => path.startsWith(part))) {
      const others = imports.filter((name) => name.startsWith(part)).map(roomOf)
      rooms.set(roomOf(path), [...(rooms.get(roomOf(path)) ?? []), ...others.filter((room) => room !== roomOf(path))])
    }
    t.same(circlesIn(rooms), [], part)
  }
})

t.test('circlesIn finds a circle with its members only', async (t) => {
  const graph = new Map([
    ['a', ['b']],
    ['b', ['c', 'd']],
    ['c', ['a']],
    ['d', []],
  ])
  t.same(circlesIn(graph), [['a', 'b', 'c']])
})

t.test('the top folder and src/ hold only the known names', async (t) => {
  const allowed = new Set([
    ...['.ci', 'bench', 'deploy', 'docs', 'examples', 'protocol', 'scripts', 'src', 'test'],
    ...['.dockerignore', '.gitignore', '.npmrc', 'biome.json', 'package-lock.json', 'package.json', 'tsconfig.json'],
    ...['ARCHITECTURE.md', 'Dockerfile', 'LICENSE', 'README.md', 'CHANGELOG.md', 'SECURITY.md'],
    // The tools make these; they are not in the repository.
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
  ...['cli', 'config', 'core', 'device', 'nats', 'observe', 'store', 'transport'],
  ...['cli.ts', 'clock.ts', 'device-token.ts', 'keyring.ts', 'networks.ts', 'processors.ts'],
  ...['collections.ts', 'setting-types.ts', 'stop-stack.ts', 'type-guards.ts'],
])
