/** Python for the client in protocol/clients/python: 3.11 or newer with the package websockets. Only tests need it. */
import { installByApt } from './apt.mjs'
import { PrepareError, run } from './say.mjs'

const candidates = ['/usr/bin/python3', 'python3']
const probe = 'import sys, websockets; sys.exit(sys.version_info < (3, 11))'

/** The first Python that will do, or null. */
export async function findPython() {
  for (const python of candidates) if ((await run(python, ['-c', probe])).code === 0) return python
  return null
}

/** Installs it by apt where there is none. */
export async function ensurePython() {
  if ((await findPython()) !== null) return
  const what = 'python3 of 3.11 or newer with websockets'
  const remedy = 'install python3 and its package websockets yourself'
  await installByApt(['python3', 'python3-websockets'], { what, remedy })
  if ((await findPython()) === null) throw new PrepareError(`apt-get did not bring ${what}: ${remedy}`)
}
