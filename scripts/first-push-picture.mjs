/**
 * Draws docs/images/first-push.svg, the terminal picture of the README, from a real run:
 *
 *     node scripts/first-push-picture.mjs
 *
 * It runs `npm start` in an empty data folder, runs the command that `npm start` prints, and stops everything. The picture shows the
 * text as printed, with two exceptions: "…" stands for the rest of a long token, and "⋮" for lines that are left out.
 */
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root } from './prepare.mjs'

const COLUMNS = 104
const TOKEN = /[A-Za-z0-9_.-]{40,}/g
const TOKEN_SHOWN = 10
const RUN_MS_MAX = 120_000

const CHARACTER_WIDTH = 8.43
const LINE_HEIGHT = 19
const PADDING = 18
const TITLE_HEIGHT = 30
const GAP = 16

const folder = await mkdtemp(join(tmpdir(), 'borealis-picture-'))
try {
  const { service, command, answer, push } = await firstPush()
  const shortCommand = short(command)
  const first = [
    input('npm start'),
    ...service.steps.map(output),
    note('⋮'),
    output('Send a push from another terminal; it appears here:'),
    note('⋮'),
    output(service.ready),
    ...push.map((line) => ({ text: line, style: 'push' })),
  ]
  const [begin, ...rest] = wrapped(`$ ${shortCommand}`)
  const second = [
    input(begin.slice(2)),
    ...rest.map((text) => ({ text, style: 'input' })),
    ...wrapped(short(answer)).map(output),
  ]
  await writeFile(join(root, 'docs/images/first-push.svg'), picture([first, second]))
} finally {
  await rm(folder, { recursive: true })
}

/** Starts everything, sends the push, waits until the sample device shows it, and stops everything. */
async function firstPush() {
  const child = spawn('npm', ['start', '--silent'], {
    cwd: root,
    env: { ...process.env, BOREALIS_START_DATA_FOLDER: folder },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const lines = []
  let partial = ''
  child.stdout.setEncoding('utf8').on('data', (chunk) => {
    const whole = (partial + chunk).split('\n')
    partial = whole.pop()
    lines.push(...whole)
  })
  const ended = new Promise((resolve) => child.once('close', resolve))
  try {
    const ready = await lineOf(lines, /ready: waiting for pushes/)
    const command = lines[await lineOf(lines, /^curl /)]
    const answer = await outputOf(command)
    const last = await lineOf(lines, /^device {4,}\d+ for app_/)
    const steps = lines.slice(0, lines.indexOf('')).filter((line) => !line.includes('registered'))
    return {
      service: { steps: steps.map(short), ready: lines[ready] },
      ...{ command, answer, push: lines.slice(ready + 1, last + 1) },
    }
  } finally {
    child.kill('SIGINT')
    await ended
  }
}

/** The index of the first line that matches, as soon as it is there. */
async function lineOf(lines, pattern) {
  const giveUpAt = Date.now() + RUN_MS_MAX
  while (Date.now() < giveUpAt) {
    const index = lines.findIndex((line) => pattern.test(line))
    if (index >= 0) return index
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error(`no line ${pattern} came, only:\n${lines.join('\n')}`)
}

function outputOf(command) {
  return new Promise((resolve, reject) => {
    const shell = spawn('sh', ['-c', command], { stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    shell.stdout.setEncoding('utf8').on('data', (chunk) => {
      text += chunk
    })
    shell.once('close', (code) => (code === 0 ? resolve(text) : reject(new Error(`${command} ended with ${code}`))))
  })
}

function short(text) {
  return text.replaceAll(TOKEN, (token) => `${token.slice(0, TOKEN_SHOWN)}…`)
}

/** As a terminal of this width breaks a line. */
function wrapped(text) {
  return text.match(new RegExp(`.{1,${COLUMNS}}`, 'gu')) ?? ['']
}

function output(text) {
  return { text, style: 'output' }
}

function input(text) {
  return { text: `$ ${text}`, style: 'input' }
}

function note(text) {
  return { text, style: 'note' }
}

function picture(terminals) {
  const width = Math.ceil(COLUMNS * CHARACTER_WIDTH + 2 * PADDING)
  const heights = terminals.map((lines) => TITLE_HEIGHT + lines.length * LINE_HEIGHT + PADDING)
  const height = heights.reduce((sum, one) => sum + one + GAP, -GAP)
  let top = 0
  const drawn = terminals.map((lines, index) => {
    const terminal = drawTerminal(lines, { top, width, height: heights[index], title: `Terminal ${index + 1}` })
    top += heights[index] + GAP
    return terminal
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="Two terminals: npm start, and the first push">
<style>
  text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace; white-space: pre; fill: #c9d1d9 }
  .input { fill: #ffffff; font-weight: bold }
  .push { fill: #7ee787 }
  .note, .title { fill: #8b949e }
  .title { font-size: 12px }
</style>
${drawn.join('\n')}
</svg>
`
}

function drawTerminal(lines, { top, width, height, title }) {
  const buttons = ['#ff5f57', '#febc2e', '#28c840']
    .map((color, index) => `<circle cx="${PADDING + 4 + index * 18}" cy="${top + 16}" r="5.5" fill="${color}"/>`)
    .join('')
  const texts = lines
    .map(({ text, style }, index) => ({ text, style, y: top + TITLE_HEIGHT + (index + 1) * LINE_HEIGHT - 4 }))
    .filter(({ text }) => text !== '')
    // textLength keeps the columns in place whatever monospaced font the reader has.
    .map(
      ({ text, style, y }) =>
        `<text class="${style}" x="${PADDING}" y="${y}" textLength="${([...text].length * CHARACTER_WIDTH).toFixed(1)}" xml:space="preserve">${escaped(text)}</text>`,
    )
  return [
    `<rect x="0.5" y="${top + 0.5}" width="${width - 1}" height="${height - 1}" rx="8" fill="#0d1117" stroke="#57606a"/>`,
    buttons,
    `<text class="title" x="${width / 2}" y="${top + 20}" text-anchor="middle">${title}</text>`,
    ...texts,
  ].join('\n')
}

function escaped(text) {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
