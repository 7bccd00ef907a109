/** Programs that only some tests need: without them those tests say that they were left out, and why. */
import { delimiter, join } from 'node:path'
import { executable, installByApt, silenceService } from './apt.mjs'
import { say } from './say.mjs'

const folders = ['/usr/sbin', '/usr/bin', '/usr/local/sbin', '/usr/local/bin']

/** Path of a program, or null. */
export function findProgram(name, environment = process.env) {
  const path = (environment.PATH ?? '').split(delimiter).filter(Boolean)
  return [...path, ...folders].map((folder) => join(folder, name)).find(executable) ?? null
}

/** Program and package. They make certificates, balance the load of several instances, and check the alert rules. */
const tools = [
  ['openssl', 'openssl'],
  ['haproxy', 'haproxy'],
  ['promtool', 'prometheus'],
]

/** Installs what is missing by apt, as far as apt can. */
export async function ensureTestTools() {
  for (const [name, deb] of tools.filter(([tool]) => findProgram(tool) === null)) {
    try {
      const elevate = await installByApt([deb], { what: name, remedy: `install ${deb} yourself` })
      if (name !== 'openssl') await silenceService(elevate, `${deb}.service`)
    } catch (error) {
      say(`tests that need ${name} are left out: ${error.message}`)
    }
  }
}
