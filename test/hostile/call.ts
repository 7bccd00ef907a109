/** The parts that all plans share: opening a hostile connection, and checking how it ends. */
import { Close } from '../../protocol/close-codes.js'
import type { ServerFrame } from '../../protocol/frame-types.js'
import type { Knowledge } from './bytes.js'
import type { Random } from './chance.js'
import { CUT, isDocumented } from './expected.js'
import type { Forger } from './forgeries.js'
import type { Shot } from './http.js'
import type { Ledger } from './ledger.js'
import type { Suspects } from './suspects.js'
import { upgradeRequest } from './websocket.js'
import { type Target, Wire } from './wire.js'

export interface PlanWorld {
  ledger: Ledger
  devicePort: Target
  gateway: Target
  gatewayShot(random: Random): Shot
  forger: Forger
  suspects: Suspects
  knowledge: Knowledge
}

export interface PlanCall extends PlanWorld {
  random: Random
  /** With the seed, this name repeats the plan. */
  name: string
  /** 127.0.0.x. One address has too few ports for many fast connections to one port. */
  address: string
}

export type Plan = (call: PlanCall) => Promise<void>

/** An expected close comes at once; the time-out allows for a busy machine. */
export const DUE_MS = 20_000
/** How long a plan waits for an answer that need not come. */
export const OPTIONAL_ANSWER_MS = 50
export const REFUSED = 503
const UPGRADED = 101

export function open(call: PlanCall, onFrame: (received: ServerFrame) => void = onFrameWithoutSession(call)): Wire {
  call.ledger.connections++
  return new Wire(call.devicePort, call.address, onFrame)
}

/** A connection without a valid credential may get ERROR and GOAWAY, and no other frame. */
const onFrameWithoutSession = (call: PlanCall) => (received: ServerFrame) => {
  if (received.type === 'ERROR' || received.type === 'GOAWAY') return
  call.ledger.wrongDevice++
  call.ledger.surprise(call.name, `a connection without a valid credential got ${received.type}`)
}

/** Upgrades the connection. False if the worker is full, which is a correct answer, or if the upgrade fails. */
export async function upgrade(call: PlanCall, wire: Wire): Promise<boolean> {
  wire.write(upgradeRequest(call.random))
  if (await wire.upgraded(DUE_MS)) return true
  if (wire.status === REFUSED) call.ledger.answered(REFUSED)
  else call.ledger.surprise(call.name, `an upgrade was answered with ${wire.status} ${JSON.stringify(wire.end)}`)
  wire.leave()
  return false
}

/** Waits for the close that must come, and compares its code. */
export async function expectEnd(
  call: PlanCall,
  wire: Wire,
  codes: readonly number[],
  cause: () => string,
): Promise<void> {
  const { ledger, name } = call
  if (!(await wire.until(() => wire.end !== null, DUE_MS))) ledger.surprise(name, `no close after ${cause()}`)
  else {
    const code = wire.end?.code ?? CUT
    ledger.closed(code)
    if (!codes.includes(code)) ledger.surprise(name, `closed with ${code}, not ${codes.join(' or ')}, after ${cause()}`)
  }
  wire.leave()
}

/** Checks an end that PROTOCOL.md leaves open: any documented close, an end without close frame, or no answer. */
export async function expectAnything(call: PlanCall, wire: Wire, cause: () => string): Promise<void> {
  const { ledger, name } = call
  await wire.until(() => wire.end !== null || (wire.status > 0 && wire.status !== UPGRADED), OPTIONAL_ANSWER_MS)
  if (wire.status > 0 && wire.status !== UPGRADED) ledger.answered(wire.status)
  else if (!wire.end) ledger.left++
  else {
    ledger.closed(wire.end.code)
    const isAllowed = wire.end.code === CUT || isDocumented(wire.end.code)
    if (!isAllowed) ledger.surprise(name, `closed with ${wire.end.code} after ${cause()}`)
    if (wire.end.code === Close.internal.code) ledger.surprise(name, `closed as internal error after ${cause()}`)
  }
  wire.leave()
}
