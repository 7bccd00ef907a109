/** Shared by the tests of the protocol: the vectors, and both decoders with results of the same form. */
import { readFileSync } from 'node:fs'
import { decodeFrames } from '../../protocol/decode.js'
import { DEVICE_FRAME_BYTES_MAX, SERVER_FRAME_BYTES_MAX, type Sender } from '../../protocol/frame.js'
import { frameToJson } from '../../protocol/json-form.js'
import { type JsonFrame, type NaiveResult, naiveDecode } from './naive.js'

export interface Vector {
  name: string
  from: Sender
  hex: string
  frames: JsonFrame[]
  error?: string
  offset?: number
}

export const root = new URL('../../../', import.meta.url)

export function readText(path: string): string {
  return readFileSync(new URL(path, root), 'utf8')
}

export function readVectors(file: 'device' | 'server' | 'lenient' | 'invalid'): Vector[] {
  return (JSON.parse(readText(`protocol/vectors/${file}.json`)) as { vectors: Vector[] }).vectors
}

export const allVectors = (['device', 'server', 'lenient', 'invalid'] as const).flatMap(readVectors)

export const limitOf = (from: Sender) => (from === 'device' ? DEVICE_FRAME_BYTES_MAX : SERVER_FRAME_BYTES_MAX)

/** The decoder under test, with results in the form of the oracle. */
export function decode(bytes: Uint8Array, from: Sender): NaiveResult {
  const { frames, fault } = decodeFrames(bytes, { from, frameBytesMax: limitOf(from) })
  return { frames: frames.map(frameToJson) as JsonFrame[], error: fault?.code ?? null, offset: fault?.offset ?? 0 }
}

export function oracle(bytes: Uint8Array | number[], from: Sender): NaiveResult {
  return naiveDecode(Array.isArray(bytes) ? bytes : [...bytes], from, limitOf(from))
}

export const bytesOf = (hex: string) => Uint8Array.from(Buffer.from(hex, 'hex'))
export const hexOf = (bytes: Uint8Array | number[]) => Buffer.from(bytes).toString('hex')
