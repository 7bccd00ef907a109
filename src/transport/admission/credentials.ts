/** Whom a HELLO comes from. Synchronous, offline, and never throwing on what devices send. */
import type { CloseName } from '../../../protocol/close-codes.js'
import type { Credential } from '../../../protocol/frame-types.js'
import { DeviceTokenVerifier } from '../../device-token.js'
import type { TransportKeys } from '../../keyring.js'
import { type Ticket, TicketBox } from './ticket.js'

export type Belief =
  | {
      ok: true
      device: string
      /** When the device token expires that all began with. */
      tokenExpiresAtMs: number
      /** Null: it came with its token. */
      ticket: Ticket | null
    }
  | { ok: false; reason: CloseName & ('bad_token' | 'token_expired' | 'bad_ticket') }

/** Throws RangeError where Credentials cannot be made of them. */
export function checkKeys(keys: TransportKeys, issuer: string): void {
  void [new TicketBox(keys.tickets), new DeviceTokenVerifier(keys.deviceTokens, issuer)]
}

export class Credentials {
  private box: TicketBox
  private tokens: DeviceTokenVerifier

  constructor(
    keys: TransportKeys,
    private readonly issuer: string,
  ) {
    this.box = new TicketBox(keys.tickets)
    this.tokens = new DeviceTokenVerifier(keys.deviceTokens, issuer)
  }

  /** Other keys from now on. Throws RangeError, and keeps those it has, where they are none. */
  use(keys: TransportKeys): void {
    const box = new TicketBox(keys.tickets)
    this.tokens = new DeviceTokenVerifier(keys.deviceTokens, this.issuer)
    this.box = box
  }

  get tickets(): TicketBox {
    return this.box
  }

  judge(credential: Credential | null, nowMs: number): Belief {
    if (credential?.kind === 'ticket') {
      const ticket = this.tickets.open(credential.ticket, nowMs)
      if (!ticket) return { ok: false, reason: 'bad_ticket' }
      return { ok: true, device: ticket.device, tokenExpiresAtMs: ticket.tokenExpiresAtMs, ticket }
    }
    if (!credential) return { ok: false, reason: 'bad_token' }
    const verdict = this.tokens.verify(credential.token, nowMs)
    if (!verdict.ok) return verdict
    return { ok: true, device: verdict.claims.device, tokenExpiresAtMs: verdict.claims.expiresAtMs, ticket: null }
  }
}
