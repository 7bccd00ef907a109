/** The types of protocol/vectors/sessions.json. */
import type { Sender } from '../../protocol/frame.js'
import type { JsonFrame } from './naive.js'
import { readText } from './support.js'

export interface MessageStep {
  direction: Sender
  hex: string
  frames: JsonFrame[]
  meaning: string
  /** The application causes this message. All other messages of the device follow from the protocol. */
  wish?: true
}

export interface CloseStep {
  /** The end that closes. */
  direction: Sender | 'network'
  close: number
  meaning: string
}

export interface JsonCursor {
  incarnation: string
  sequence: number
  subscriptions: number
}

/** The state that the device has stored, as far as sessions depend on it. */
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
  /** True if the device does not reconnect by itself after the session. */
  stops: boolean
  left: Stored
}

export function readSessions(): Session[] {
  return (JSON.parse(readText('protocol/vectors/sessions.json')) as { sessions: Session[] }).sessions
}
