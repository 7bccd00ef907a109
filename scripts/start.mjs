/** `npm start`: prepares, then runs `borealis start` in this same process, so that no signal has to be forwarded. */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { prepare, root } from './prepare.mjs'
import { fail } from './say.mjs'

try {
  await prepare({ natsServer: 'unless NATS_URL' })
  const cli = join(root, 'dist/src/cli.js')
  process.argv = [process.argv[0], cli, 'start', ...process.argv.slice(2)]
  await import(pathToFileURL(cli).href)
} catch (error) {
  fail(error)
}
