/** Python 3.11 or newer for tests: the client in protocol/clients/python and the programs of docs/examples. */
import { installByApt } from './apt.mjs'
import { PrepareError, run } from './say.mjs'

const candidates = ['/usr/bin/python3', 'python3']
const probe = 'import sys, websockets, jwt, cryptography, yaml; sys.exit(sys.version_info < (3, 11))'
const packages = ['python3', 'python3-websockets', 'python3-jwt', 'python3-cryptography', 'python3-yaml']

/** The first suitable Python, or null. */
export async function findPython() {
  for (const python of candidates) if ((await run(python, ['-c', probe])).code === 0) return python
  return null
}

/** Installs Python by apt if there is no suitable one. */
export async function ensurePython() {
  if ((await findPython()) !== null) return
  const name = 'python3 (3.11 or newer) with websockets, jwt, cryptography and yaml'
  const remedy = 'install python3 and these packages yourself (pip: websockets pyjwt[crypto] pyyaml)'
  await installByApt(packages, { name, remedy })
  if ((await findPython()) === null)
    throw new PrepareError(`apt-get installed packages, but there still is no ${name}: ${remedy}`)
}
