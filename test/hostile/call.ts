/** What all plans share: how a hostile connection is opened, and how its end is judged. */
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
  /** Repeats it. */
  name: string
  /** 127.0.0.x: so many connections from one address to one port are slow to make. */
  address: string
}

export type Plan = (call: PlanCall) => Promise<void>

/** A close is due at once; a machine under load takes its time. */
export const DUE_MS = 20_000
/** So long we look whether an answer comes where none is due. */
export const LOOK_MS = 50
export const REFUSED = 503
const UPGRADED = 101

export function open(call: PlanCall, onFrame: (received: ServerFrame) => void = stranger(call)): Wire {
  call.ledger.connections++
  return new Wire(call.devicePort, call.address, onFrame)
}

/** Who showed no good credential is owed ERROR, and nothing else. */
const stranger = (call: PlanCall) => (received: ServerFrame) => {
  if (received.type === 'ERROR' || received.type === 'GOAWAY') return
  call.ledger.wrongDevice++
  call.ledger.surprise(call.name, `a stranger got ${received.type}`)
}

/** Full is an answer too. True where the upgrade was made. */
export async function upgraded(call: PlanCall, wire: Wire): Promise<boolean> {
  wire.write(upgradeRequest(call.random))
  if (await wire.upgraded(DUE_MS)) return true
  if (wire.status === REFUSED) call.ledger.answered(REFUSED)
  else call.ledger.surprise(call.name, `an upgrade was answered ${wire.status} ${JSON.stringify(wire.end)}`)
  wire.leave()
  return false
}

/** Waits for the end that has to come, and compares. */
export async function expectEnd(
  call: PlanCall,
  wire: Wire,
  codes: readonly number[],
  why: () => string,
): Promise<void> {
  const { ledger, name } = call
  if (!(await wire.until(() => wire.end !== null, DUE_MS))) ledger.surprise(name, `no close for ${why()}`)
  else {
    const code = wire.end?.code ?? CUT
    ledger.closed(code)
    if (!codes.includes(code)) ledger.surprise(name, `closed with ${code}, not ${codes.join(' or ')}, for ${why()}`)
  }
  wire.leave()
}

/** Where the text leaves it open what comes: any documented close, a cut, or nothing. */
export async function expectAnything(call: PlanCall, wire: Wire, why: () => string): Promise<void> {
  const { ledger, name } = call
  await wire.until(() => wire.end !== null || (wire.status > 0 && wire.status !== UPGRADED), LOOK_MS)
  if (wire.status > 0 && wire.status !== UPGRADED) ledger.answered(wire.status)
  else if (!wire.end) ledger.left++
  else {
    ledger.closed(wire.end.code)
    const isAllowed = wire.end.code === CUT || isDocumented(wire.end.code)
    if (!isAllowed) ledger.surprise(name, `closed with ${wire.end.code} for ${why()}`)
    if (wire.end.code === Close.internal.code) ledger.surprise(name, `an internal fault for ${why()}`)
  }
  wire.leave()
}
