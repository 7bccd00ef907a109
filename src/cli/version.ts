import { createRequire } from 'node:module'

/** The version of this Borealis, as package.json has it. */
export function version(): string {
  const { version } = createRequire(import.meta.url)('../../../package.json') as { version: string }
  return version
}
