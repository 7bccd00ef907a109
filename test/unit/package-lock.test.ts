import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import t from 'tap'

interface LockedPackage {
  version?: string
  dev?: boolean
  resolved?: string
  engines?: { node?: string }
  dependencies?: Record<string, string>
  optionalDependencies?: Record<string, string>
}
type Packages = Record<string, LockedPackage>

const { satisfies } = createRequire(import.meta.url)('semver') as { satisfies(version: string, range: string): boolean }
const readJson = <T>(file: string) => JSON.parse(readFileSync(file, 'utf8')) as T
const { packages } = readJson<{ packages: Packages }>('package-lock.json')

/** The first version of each Node line that production packages must support. */
const RUNTIME_VERSIONS = ['20.0.0', '22.0.0', '24.0.0']
/** Development tools may ask for a later release of each line. */
const DEVELOPMENT_VERSIONS = ['20.19.0', '22.12.0', '24.0.0']

/** Resolves as Node does: in the importer's node_modules, then in that of each folder above it. */
function resolves(packages: Packages, importer: string, name: string): boolean {
  for (let folder = importer; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))) {
    if (`${folder === '' ? '' : `${folder}/`}node_modules/${name}` in packages) return true
    if (folder === '') return false
  }
}

function missingPackages(packages: Packages): string[] {
  return Object.entries(packages).flatMap(([path, { dependencies, optionalDependencies }]) =>
    Object.keys({ ...dependencies, ...optionalDependencies })
      .filter((name) => !resolves(packages, path, name))
      .map((name) => `${path} needs ${name}`),
  )
}

function excludedNodes(packages: Packages): string[] {
  return Object.entries(packages).flatMap(([path, { dev, engines }]) =>
    (dev ? DEVELOPMENT_VERSIONS : RUNTIME_VERSIONS)
      .filter((version) => engines?.node !== undefined && !satisfies(version, engines.node))
      .map((version) => `${path} wants Node ${engines?.node}, which excludes ${version}`),
  )
}

t.test('the lock has each dependency, also the optional binaries of other platforms', async (t) => {
  t.same(missingPackages(packages), [], 'npm ci refuses a lock that lacks a dependency')
  for (const platform of ['darwin-arm64', 'linux-x64', 'win32-x64']) {
    t.ok(`node_modules/@biomejs/cli-${platform}` in packages, platform)
  }
})

t.test('the check of the lock reports a removed optional binary', async (t) => {
  const { 'node_modules/@biomejs/cli-darwin-arm64': _removed, ...others } = packages
  t.same(missingPackages(others), ['node_modules/@biomejs/biome needs @biomejs/cli-darwin-arm64'])
})

t.test('no locked package excludes a Node version that Borealis supports', async (t) => {
  t.same(excludedNodes(packages), [])
})

t.test('the check of Node versions reports a package that excludes Node 20', async (t) => {
  t.same(excludedNodes({ 'node_modules/x': { engines: { node: '>=22' } } }), [
    'node_modules/x wants Node >=22, which excludes 20.0.0',
  ])
})

t.test('the lock names no registry host', async (t) => {
  const named = Object.entries(packages).filter(([, { resolved }]) => resolved !== undefined)
  t.same(named, [], 'npm config omit-lockfile-registry-resolved (.npmrc) keeps them out')
})

t.test('nats is pinned to the locked version, because client/headers.ts reads its private memory layout', async (t) => {
  const { dependencies = {} } = readJson<LockedPackage>('package.json')
  const { version } = packages['node_modules/nats'] ?? {}
  t.match(version, /^\d+\.\d+\.\d+$/)
  t.equal(dependencies.nats, version)
})
