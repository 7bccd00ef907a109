/**
 * Prepares a clone on a new machine: npm packages, nats-server, the build. Does nothing if all are up to date. It uses Node
 * alone, because it runs before any package is installed.
 */
import { dirname } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build } from './build.mjs'
import { ensureNatsServer } from './nats-server.mjs'
import { installPackages } from './packages.mjs'
import { fail, PrepareError } from './say.mjs'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** `natsServer`: 'unless NATS_URL' if a running server suffices; 'always' for tests, which start their own servers. */
export async function prepare({ natsServer }) {
  const major = Number(process.versions.node.split('.')[0])
  if (major < 20) throw new PrepareError(`Borealis needs Node 20 or newer; this is ${process.version}`)
  await installPackages(root)
  await ensureNatsServer(process.env, { optional: natsServer === 'unless NATS_URL' })
  await build(root)
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await prepare({ natsServer: 'unless NATS_URL' }).catch(fail)
}
