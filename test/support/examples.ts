/** Runs the programs of docs/examples as a reader would: each in a process of its own that gets its arguments only. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'

const PROBE = 'import sys, websockets, jwt, yaml, cryptography; sys.exit(sys.version_info < (3, 11))'
const python = ['/usr/bin/python3', 'python3'].find((program) => spawnSync(program, ['-c', PROBE]).status === 0)

export const PYTHON_IS_MISSING =
  'no python3 of 3.11 or newer with websockets, jwt, cryptography and yaml: ' +
  'apt-get install python3 python3-websockets python3-jwt python3-cryptography python3-yaml'

export type Language = 'TypeScript' | 'Python'

export interface Ended {
  code: number | null
  out: string
  err: string
}

/** The command line of an example. Throws if this machine has no suitable Python. */
function commandOf(language: Language, name: string): [string, string] {
  if (language === 'TypeScript') return [process.execPath, resolve(`dist/docs/examples/${name}.js`)]
  if (python === undefined) throw new Error(PYTHON_IS_MISSING)
  return [python, resolve(`docs/examples/${name.replaceAll('-', '_')}.py`)]
}

const environment = { PATH: process.env.PATH, PYTHONDONTWRITEBYTECODE: '1' }

/** Runs an example to its end. */
export async function runExample(language: Language, name: string, words: string[]): Promise<Ended> {
  const [program, file] = commandOf(language, name)
  const child = spawn(program, [file, ...words], { env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk) => {
    out += chunk
  })
  child.stderr.on('data', (chunk) => {
    err += chunk
  })
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, out, err }
}

/** Starts an example that runs until the test ends. `onLine` gets each line that it prints. */
export function startExample(
  t: Pick<Test, 'teardown'>,
  language: Language,
  name: string,
  env: Record<string, string>,
  onLine: (line: string) => void,
): void {
  const [program, file] = commandOf(language, name)
  const child = spawn(program, [file], { env: { ...environment, ...env }, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  createInterface({ input: child.stdout }).on('line', onLine)
}
