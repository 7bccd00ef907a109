/**
 * npm run hostile -- --frames N [--seed S] [--json FILE|-]
 *
 * Half of the frames go to the decoder in this process, half to a live Borealis that is started for it. Exit code 1: a
 * process ended, a message was lost or reached the wrong device, a close was not the one that PROTOCOL.md has, or memory grew.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { runHostile } from './run.js'

const DEFAULT_FRAMES = 200_000
/** Where nobody looks at a terminal, a line so often. */
const LINE_MS = 10_000

const { values } = parseArgs({
  options: { frames: { type: 'string' }, seed: { type: 'string' }, json: { type: 'string' } },
})
const frames = wholeNumber('frames', values.frames ?? String(DEFAULT_FRAMES))
const seed = wholeNumber('seed', values.seed ?? '1')
const folder = mkdtempSync(join(tmpdir(), 'borealis-hostile-'))
let lineMs = 0

try {
  const result = await runHostile({
    ...{ frames, seed, folder: join(folder, 'system') },
    onProgress: show,
    onNotice: (text) => process.stderr.write(`\n${text}\n`),
  })
  if (process.stderr.isTTY) process.stderr.write('\n')
  const json = `${JSON.stringify(result)}\n`
  if (values.json === undefined || values.json === '-') process.stdout.write(json)
  else writeFileSync(values.json, json)
  process.exitCode = result.ok ? 0 : 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`--${name} takes a whole number, not ${text}`)
  return value
}

function show(text: string): void {
  if (process.stderr.isTTY) {
    process.stderr.write(`\r${text} `)
    return
  }
  if (performance.now() - lineMs < LINE_MS) return
  lineMs = performance.now()
  process.stderr.write(`${text}\n`)
}
