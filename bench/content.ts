/** The messages that bench pushes: text of an ordinary length, and a stamp (stamp.ts) in the attributes. */
import { encodeNotify, encodeNotifyGroupBody, encodeNotifyGroupFrame } from '../protocol/encode.js'
import type { GroupTarget } from '../protocol/frame-types.js'
import { STAMP_BYTES, stampData, writeStamp } from './stamp.js'

export const TITLE = 'Delivery update'
export const MESSAGE = 'Your parcel leaves the depot now and arrives between 14:00 and 15:30 today.'

/** Bytes of title, message and data of each message. */
export const CONTENT_BYTES = TITLE.length + MESSAGE.length + stampData(0, 0).length

const ID_AT_IN_BODY = 1

/** Makes NOTIFY frames that differ only in id and stamp: it copies an encoded frame and overwrites these two fields. */
export class NotifyFrames {
  readonly #template: Uint8Array
  readonly #idAt: number

  constructor(registration: number, expiresAtSeconds: number) {
    this.#template = encodeNotify({
      id: 1n,
      registration,
      expiresAtSeconds,
      priority: 'normal',
      collapseKey: '',
      title: TITLE,
      message: MESSAGE,
      data: stampData(0, 0),
    })
    const prefix = (this.#template[0] as number) < 128 ? 1 : 2
    this.#idAt = prefix + 1 + ID_AT_IN_BODY
  }

  get bytes(): number {
    return this.#template.length
  }

  make(id: bigint, sequence: number, intendedMicros: number): Buffer {
    const frame = Buffer.from(this.#template)
    frame.writeBigUInt64LE(id, this.#idAt)
    writeStamp(frame, frame.length - STAMP_BYTES, sequence, intendedMicros)
    return frame
  }
}

/** Body of a group message. The position in the log is not part of it. */
export function groupBody(
  id: bigint,
  project: string,
  target: GroupTarget,
  sequence: number,
  micros: number,
): Uint8Array {
  return encodeNotifyGroupBody({
    id,
    target,
    project,
    expiresAtSeconds: Math.floor(Date.now() / 1000) + 3_600,
    priority: 'normal',
    collapseKey: '',
    title: TITLE,
    message: MESSAGE,
    data: stampData(sequence, micros),
  })
}

/** A complete group message as a worker sends it. The baseline servers send it to all devices. */
export function groupFrame(sequence: number, micros: number): Uint8Array {
  const body = groupBody(
    BigInt(sequence + 1),
    BASELINE_PROJECT,
    { kind: 'topic', name: BASELINE_TOPIC },
    sequence,
    micros,
  )
  return encodeNotifyGroupFrame(body, sequence + 1, [1])
}

/** As long as the project ids that bench gives to our own side. */
const BASELINE_PROJECT = 'bench-00000000'
const BASELINE_TOPIC = 'bench'
