/** Python 3.11 or newer for tests: the client in protocol/clients/python and the programs of docs/examples. */
import { installByApt } from './apt.mjs'
import { PrepareError, run } from './say.mjs'

const candidates = ['/usr/bin/python3', 'python3']
const probe = 'import sys, websockets, jwt, cryptography, yaml; sys.exit(sys.version_info < (3, 11))'
const packages = ['python3', 'python3-websockets', 'python3-jwt', 'python3-cryptography', 'python3-yaml']

/** The first Python that will do, or null. */
export async function findPython() {
  for (const python of candidates) if ((await run(python, ['-c', probe])).code === 0) return python
  return null
}

/** Installs it by apt where there is none. */
export async function ensurePython() {
  if ((await findPython()) !== null) return
  const what = 'python3 of 3.11 or newer with websockets, jwt, cryptography and yaml'
  const remedy = 'install python3 and these packages yourself (pip: websockets pyjwt[crypto] pyyaml)'
  await installByApt(packages, { what, remedy })
  if ((await findPython()) === null) throw new PrepareError(`apt-get did not bring ${what}: ${remedy}`)
}
