/** Finds or installs programs that only some tests need. Without them these tests are skipped, and say why. */
import { delimiter, join } from 'node:path'
import { disableService, executable, installByApt } from './apt.mjs'
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

/** Installs the missing programs by apt, if possible. */
export async function ensureTestTools() {
  for (const [name, deb] of tools.filter(([tool]) => findProgram(tool) === null)) {
    try {
      const elevate = await installByApt([deb], { name, remedy: `install ${deb} yourself` })
      if (name !== 'openssl') await disableService(elevate, `${deb}.service`)
    } catch (error) {
      say(`tests that need ${name} are skipped: ${error.message}`)
    }
  }
}
