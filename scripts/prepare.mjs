/** Makes a fresh machine ready: npm packages, nats-server, the build. Plain Node; does nothing where nothing is missing. */
import { dirname } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build } from './build.mjs'
import { ensureNatsServer } from './nats-server.mjs'
import { installPackages } from './packages.mjs'
import { fail, PrepareError } from './say.mjs'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** `natsServer`: 'unless NATS_URL' where a running one will do, 'always' where tests start their own. */
export async function prepare({ natsServer }) {
  const major = Number(process.versions.node.split('.')[0])
  if (major < 20) throw new PrepareError(`Node 20 or newer is needed, this is ${process.version}`)
  await installPackages(root)
  await ensureNatsServer(process.env, { optional: natsServer === 'unless NATS_URL' })
  await build(root)
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await prepare({ natsServer: 'unless NATS_URL' }).catch(fail)
}
