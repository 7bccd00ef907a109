/** Preloaded into a part of a fault run: sets its wall clock ahead by the milliseconds in a file, which it polls. */
import { readFileSync } from 'node:fs'
import { SKEW_FILE } from './skew-file.js'

const POLL_MS = 200

const file = process.env[SKEW_FILE] ?? ''
const realNow = Date.now
let aheadMs = 0

function readFile(): void {
  aheadMs = Number(readFileSync(file, 'utf8'))
}

readFile()
setInterval(readFile, POLL_MS).unref()

Date.now = () => realNow() + aheadMs
const RealDate = Date
globalThis.Date = new Proxy(RealDate, {
  construct: (target, given: [], newTarget) =>
    Reflect.construct(target, given.length > 0 ? given : [realNow() + aheadMs], newTarget) as Date,
})
