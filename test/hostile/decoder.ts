/** The decoder alone, at full speed: frames or a fault with a documented code, and now and then what the naive codec says. */
import { isDeepStrictEqual } from 'node:util'
import { Close, closeName } from '../../protocol/close-codes.js'
import { decodeFrames } from '../../protocol/decode.js'
import type { Sender } from '../../protocol/frame.js'
import { decode, hexOf, limitOf, oracle } from '../protocol/support.js'
import { hostileMessage, NOTHING_KNOWN } from './bytes.js'
import { below, streamOf } from './chance.js'
import type { Ledger } from './ledger.js'

/** Every so many-th message is read by the naive codec too. */
const COMPARED_EVERY = 64
const CHUNK = 2_000
/** Keeps these streams apart from those of plans. */
const STREAM = -1

export interface DecoderRun {
  frames: number
  seed: number
  ledger: Ledger
  onProgress(done: number): void
}

/** Resolves with messages a second. */
export async function attackDecoder({ frames, seed, ledger, onProgress }: DecoderRun): Promise<number> {
  const startedMs = performance.now()
  const random = streamOf(seed, STREAM)
  for (let done = 0; done < frames; done++) {
    const from: Sender = below(random, 4) === 0 ? 'server' : 'device'
    check(hostileMessage(random, NOTHING_KNOWN), from, done % COMPARED_EVERY === 0, ledger)
    if (done % CHUNK !== CHUNK - 1) continue
    onProgress(done + 1)
    // Signals and timers have to come through.
    await new Promise((resolve) => setImmediate(resolve))
  }
  return frames / ((performance.now() - startedMs) / 1_000)
}

function check(bytes: Uint8Array, from: Sender, isCompared: boolean, ledger: Ledger): void {
  try {
    const { fault } = decodeFrames(bytes, { from, frameBytesMax: limitOf(from) })
    const isSound = fault === null || (closeName(Close[fault.code].code) !== null && fault.offset <= bytes.length)
    if (!isSound) ledger.surprise('decoder', `${fault?.code} at ${fault?.offset}: ${hexOf(bytes)}`)
    if (!isCompared) return
    if (!isDeepStrictEqual(decode(bytes, from), oracle(bytes, from))) {
      ledger.surprise('decoder', `not what the naive codec reads, from ${from}: ${hexOf(bytes)}`)
    }
  } catch (error) {
    ledger.surprise('decoder', `threw ${String(error)}: ${hexOf(bytes)}`)
  }
}
