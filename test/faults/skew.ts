/** Preloaded into a part of a fault run: its wall clock is ahead by what stands in a file, looked at now and then. */
import { readFileSync } from 'node:fs'
import { SKEW_FILE } from './skewed.js'

const LOOK_EVERY_MS = 200

const file = process.env[SKEW_FILE] ?? ''
const realNow = Date.now
let aheadMs = 0

function look(): void {
  aheadMs = Number(readFileSync(file, 'utf8'))
}

look()
setInterval(look, LOOK_EVERY_MS).unref()

Date.now = () => realNow() + aheadMs
const RealDate = Date
globalThis.Date = new Proxy(RealDate, {
  construct: (target, given: [], newTarget) =>
    Reflect.construct(target, given.length > 0 ? given : [realNow() + aheadMs], newTarget) as Date,
})
