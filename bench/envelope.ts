/** Wraps a result into a JSON document with its origin: command, machine, versions and commit. */
import { execFileSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { cpus, release, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import Type, { type Static, type TObject } from 'typebox'
import { Value } from 'typebox/value'
import { findNatsServer } from '../src/nats/server/server-process.js'
import { BenchError, type Scenario } from './scenario.js'

export const Envelope = Type.Object({
  scenario: Type.String(),
  /** Arguments after `npm run bench --` that repeat the run. */
  command: Type.String(),
  parameters: Type.Record(Type.String(), Type.Unknown()),
  machine: Type.Object({
    cpu: Type.String(),
    cores: Type.Integer(),
    memoryBytes: Type.Integer(),
    kernel: Type.String(),
  }),
  versions: Type.Object({
    borealis: Type.String(),
    node: Type.String(),
    uWebSockets: Type.String(),
    natsServer: Type.String(),
  }),
  commit: Type.String(),
  startedAt: Type.String(),
  seconds: Type.Number(),
  result: Type.Record(Type.String(), Type.Unknown()),
})
export type Envelope = Static<typeof Envelope>

export interface Run {
  scenario: Pick<Scenario, 'name' | 'result'>
  parameters: Record<string, unknown>
  result: Record<string, unknown>
  startedAtMs: number
  endedAtMs: number
  command: string
}

/** Throws BenchError if the result lacks a field of its schema. */
export function seal(run: Run): Envelope {
  checkResult(run.scenario, run.result)
  return {
    scenario: run.scenario.name,
    command: run.command,
    parameters: run.parameters,
    machine: machine(),
    versions: versions(),
    commit: commit(),
    startedAt: new Date(run.startedAtMs).toISOString(),
    seconds: Math.round((run.endedAtMs - run.startedAtMs) / 100) / 10,
    result: run.result,
  }
}

export function checkResult(scenario: { name: string; result: TObject }, result: unknown): void {
  const problems = [...Value.Errors(scenario.result, result)]
  if (problems.length === 0) return
  const list = problems.slice(0, 5).map((problem) => `${problem.instancePath || '/'} ${problem.message}`)
  throw new BenchError(`the result of ${scenario.name} does not match its schema: ${list.join('; ')}`)
}

/** The tree that this bench belongs to. This file runs as dist/bench/envelope.js. */
export const root = fileURLToPath(new URL('../../', import.meta.url))

function machine(): Envelope['machine'] {
  const processors = cpus()
  return {
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cores: processors.length,
    memoryBytes: totalmem(),
    kernel: release(),
  }
}

function versions(): Envelope['versions'] {
  const require = createRequire(import.meta.url)
  const versionOf = (path: string) => (require(path) as { version: string }).version
  return {
    borealis: versionOf('../../package.json'),
    node: process.version,
    uWebSockets: versionOf('uWebSockets.js/package.json'),
    natsServer: output(findNatsServer(), ['--version']).replace(/^nats-server: /, ''),
  }
}

/** The commit of this tree, with `-dirty` if the tree has uncommitted changes. */
export function commit(): string {
  return output('git', ['-C', root, 'describe', '--always', '--dirty', '--abbrev=12', '--exclude=*'])
}

function output(program: string, args: string[]): string {
  try {
    return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    // Without git, or without a nats-server that the scenario does not need, the result has no such value.
    return 'unknown'
  }
}
