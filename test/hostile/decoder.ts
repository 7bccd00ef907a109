/**
 * Attacks the decoder alone, at full speed. Each message must give frames or a fault with a documented code. Some
 * messages are decoded by the naive codec too, and the results must be equal.
 */
import { isDeepStrictEqual } from 'node:util'
import { Close, closeName } from '../../protocol/close-codes.js'
import { decodeFrames } from '../../protocol/decode.js'
import type { Sender } from '../../protocol/frame.js'
import { decode, hexOf, limitOf, oracle } from '../protocol/support.js'
import { hostileMessage, NOTHING_KNOWN } from './bytes.js'
import { below, streamOf } from './chance.js'
import type { Ledger } from './ledger.js'

/** The naive codec decodes one of so many messages. */
const COMPARED_EVERY = 64
const CHUNK = 2_000
/** The number of this random stream; plans have numbers from 0. */
const STREAM = -1

export interface DecoderRun {
  frames: number
  seed: number
  ledger: Ledger
  onProgress(done: number): void
}

/** Resolves with the number of messages decoded a second. */
export async function attackDecoder({ frames, seed, ledger, onProgress }: DecoderRun): Promise<number> {
  const startedMs = performance.now()
  const random = streamOf(seed, STREAM)
  for (let done = 0; done < frames; done++) {
    const from: Sender = below(random, 4) === 0 ? 'server' : 'device'
    check(hostileMessage(random, NOTHING_KNOWN), from, done % COMPARED_EVERY === 0, ledger)
    if (done % CHUNK !== CHUNK - 1) continue
    onProgress(done + 1)
    // Lets signals and timers run.
    await new Promise((resolve) => setImmediate(resolve))
  }
  return frames / ((performance.now() - startedMs) / 1_000)
}

function check(bytes: Uint8Array, from: Sender, isCompared: boolean, ledger: Ledger): void {
  try {
    const { fault } = decodeFrames(bytes, { from, frameBytesMax: limitOf(from) })
    const isSound = fault === null || (closeName(Close[fault.code].code) !== null && fault.offset <= bytes.length)
    if (!isSound) ledger.surprise('decoder', `invalid fault ${fault?.code} at ${fault?.offset}: ${hexOf(bytes)}`)
    if (!isCompared) return
    if (!isDeepStrictEqual(decode(bytes, from), oracle(bytes, from))) {
      ledger.surprise('decoder', `the naive codec decodes a message from a ${from} otherwise: ${hexOf(bytes)}`)
    }
  } catch (error) {
    ledger.surprise('decoder', `the decoder threw ${String(error)}: ${hexOf(bytes)}`)
  }
}
