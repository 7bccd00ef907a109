/** protocol/vectors/sessions.json, as the tests read it. */
import type { Sender } from '../../protocol/frame.js'
import type { JsonFrame } from './naive.js'
import { readText } from './support.js'

export interface MessageStep {
  direction: Sender
  hex: string
  frames: JsonFrame[]
  meaning: string
  /** The application asked for it; all other messages of the device follow from the protocol. */
  wish?: true
}

export interface CloseStep {
  /** Which end closes. */
  direction: Sender | 'network'
  close: number
  meaning: string
}

export interface JsonCursor {
  incarnation: string
  sequence: number
  subscriptions: number
}

/** What the device has stored, as far as sessions depend on it. */
interface Stored {
  connection: number
  cursor: JsonCursor | null
  gap: { queue: string; count: number } | null
  subscriptions: number | null
}

export interface GivenRegistration {
  number: number
  application: string
  registrationId: string
  project: string
  topics: string[]
}

export interface Session {
  name: string
  description: string
  given: Stored & { token: string; registrations: GivenRegistration[] }
  steps: (MessageStep | CloseStep)[]
  handedOver: string[]
  gaps: { count: number; reason: string }[]
  /** The device does not come back by itself. */
  stops: boolean
  left: Stored
}

export function readSessions(): Session[] {
  return (JSON.parse(readText('protocol/vectors/sessions.json')) as { sessions: Session[] }).sessions
}
