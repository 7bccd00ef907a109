/**
 * Runs schemathesis, which reads an OpenAPI document and finds answers that disagree with it. It is no part of the
 * product: the first test that needs it installs it into a virtual environment in the folder for temporary files.
 */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const VERSION = '4.32.5'
const INSTALL_SECONDS_MAX = 200

const folder = join(tmpdir(), `borealis-schemathesis-${VERSION}`)
const program = join(folder, 'bin', 'st')
/** Written last: an interrupted installation lacks this file. */
const complete = join(folder, '.complete')

/** Installs schemathesis if it is absent. Returns null, or the reason of the failure, which the skipped test shows. */
export function ensureSchemathesis(): string | null {
  if (existsSync(complete)) return null
  const pip = ['install', '--quiet', '--disable-pip-version-check', '--retries', '1', `schemathesis==${VERSION}`]
  const steps: [string, string[]][] = [
    ['python3', ['-m', 'venv', '--clear', folder]],
    [join(folder, 'bin', 'pip'), pip],
  ]
  for (const [command, args] of steps) {
    const { status, error, stderr } = spawnSync(command, args, {
      encoding: 'utf8',
      timeout: INSTALL_SECONDS_MAX * 1000,
    })
    if (status !== 0) {
      const why = error?.message ?? stderr.trim().split('\n').at(-1) ?? ''
      return `schemathesis ${VERSION} cannot be installed: ${command} ${args.join(' ')}: ${why}`
    }
  }
  writeFileSync(complete, '')
  return null
}

export interface SchemathesisOptions {
  /** The address of the service, without a slash at the end. */
  url: string
  /** The bearer token that the requests carry. */
  token: string
  /** Values of the running service, such as registrationIds, that no schema contains. */
  known: Record<string, string>
  /** The most requests of one operation in each phase. */
  examplesMax: number
  seed: number
}

/** Runs all checks against all operations of the document. Resolves with the report and the exit code: 0 means no finding. */
export async function runSchemathesis(options: SchemathesisOptions): Promise<{ code: number | null; report: string }> {
  const { url, token, known, examplesMax, seed } = options
  const configFolder = resolve('test/support/schemathesis')
  const child = spawn(
    program,
    [
      '--config-file',
      join(configFolder, 'schemathesis.toml'),
      'run',
      `${url}/openapi.json`,
      '--header',
      `Authorization: Bearer ${token}`,
      '--checks',
      'all',
      '--seed',
      String(seed),
      '--phases',
      'coverage,fuzzing,stateful',
      '--max-examples',
      String(examplesMax),
      '--no-shrink',
      '--continue-on-failure',
      '--suppress-health-check',
      'all',
      '--no-color',
      '--output-sanitize',
      'false',
    ],
    {
      cwd: tmpdir(),
      env: {
        ...process.env,
        PYTHONPATH: configFolder,
        SCHEMATHESIS_HOOKS: 'hooks',
        BOREALIS_TEST_KNOWN: JSON.stringify(known),
        PYTHONDONTWRITEBYTECODE: '1',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  let report = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      report += text
    })
  }
  const code = await new Promise<number | null>((done) => child.once('close', done))
  return { code, report }
}
