import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import { fail, PrepareError, run, say } from './say.mjs'

const sources = ['protocol', 'src', 'bench', 'test', 'docs/examples']
const proto = 'protocol/borealis.proto'
const generated = 'protocol/generated/frames.js'

/** Generates the protobuf code, then runs `tsc`, which is the type check as well. Does nothing if no source changed. */
export async function build(root) {
  const wanted = fingerprint(root)
  const stamp = join(root, 'dist', '.built')
  // The stamp may have survived a removal of the outputs.
  const outputs = [generated, 'dist/src'].every((path) => existsSync(join(root, path)))
  if (outputs && existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return
  say('building ...')
  rmSync(stamp, { force: true })
  await generate(root)
  const { code, tail } = await run(
    process.execPath,
    [join(root, 'node_modules/typescript/bin/tsc'), '--pretty', 'false'],
    {
      cwd: root,
    },
  )
  if (code !== 0) throw new PrepareError(`the type check failed:\n${tail.trim()}`)
  prune(root)
  writeFileSync(stamp, wanted)
}

/** Generates static protobuf code from the .proto file, and copies it to the compiled files. */
export async function generate(root) {
  const target = join(root, generated)
  const stamp = `${target}.from`
  const wanted = createHash('sha256')
    .update(readFileSync(join(root, proto)))
    .digest('hex')
  if (!existsSync(target) || !existsSync(stamp) || readFileSync(stamp, 'utf8') !== wanted) {
    mkdirSync(dirname(target), { recursive: true })
    const options = '-t static-module -w esm --no-verify --no-delimited --no-typeurl --no-service -d'.split(' ')
    const pbjs = join(root, 'node_modules/protobufjs-cli/bin/pbjs')
    const { code, tail } = await run(process.execPath, [pbjs, ...options, '-o', target, join(root, proto)], {
      cwd: root,
    })
    if (code !== 0) throw new PrepareError(`pbjs could not generate ${generated}:\n${tail.trim()}`)
    writeFileSync(stamp, wanted)
  }
  const copy = join(root, 'dist', generated)
  mkdirSync(dirname(copy), { recursive: true })
  copyFileSync(target, copy)
}

/** Removes compiled files without a source, so that a deleted test no longer runs. */
function prune(root) {
  for (const folder of sources) {
    for (const file of filesUnder(join(root, 'dist', folder))) {
      const source = join(root, relative(join(root, 'dist'), file))
      const base = source.replace(/\.js(\.map)?$/, '')
      if (base !== source && !existsSync(`${base}.ts`) && !existsSync(`${base}.js`)) rmSync(file)
    }
  }
}

function fingerprint(root) {
  const hash = createHash('sha256').update(process.version)
  const files = sources.flatMap((folder) => filesUnder(join(root, folder)))
  const inputs = files.filter((file) => /\.(ts|proto|json)$/.test(file) && !file.includes('/generated/'))
  for (const file of [...inputs, join(root, 'tsconfig.json'), join(root, 'package-lock.json')].sort()) {
    hash.update(relative(root, file)).update('\0').update(readFileSync(file)).update('\0')
  }
  return hash.digest('hex')
}

function filesUnder(folder) {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return filesUnder(path)
    return entry.isFile() ? [path] : []
  })
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const only = process.argv[2] === '--generate-only' ? generate : build
  await only(process.cwd()).catch(fail)
}
