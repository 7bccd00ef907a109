/**
 * Verifies the credential of a HELLO, a device token or a ticket. Synchronous and offline; never throws on input of
 * devices.
 */
import type { CloseName } from '../../../protocol/close-codes.js'
import type { Credential } from '../../../protocol/frame-types.js'
import { DeviceTokenVerifier } from '../../device-token.js'
import type { TransportKeys } from '../../keyring.js'
import { type Ticket, TicketBox } from './ticket.js'

export type CredentialVerdict =
  | {
      ok: true
      device: string
      /** The expiry of the device's token. A ticket carries that of the token that it descends from. */
      tokenExpiresAtMs: number
      /** Null if the credential was the token itself. */
      ticket: Ticket | null
    }
  | { ok: false; reason: CloseName & ('bad_token' | 'token_expired' | 'bad_ticket') }

/** Throws RangeError if the keys cannot be used. */
export function checkKeys(keys: TransportKeys, issuer: string): void {
  void [new TicketBox(keys.tickets), new DeviceTokenVerifier(keys.deviceTokens, issuer)]
}

export class Credentials {
  private ticketBox: TicketBox
  private tokens: DeviceTokenVerifier

  constructor(
    keys: TransportKeys,
    private readonly issuer: string,
  ) {
    this.ticketBox = new TicketBox(keys.tickets)
    this.tokens = new DeviceTokenVerifier(keys.deviceTokens, issuer)
  }

  /** Replaces the keys. Throws RangeError and keeps the old ones if the new ones cannot be used. */
  useKeys(keys: TransportKeys): void {
    const ticketBox = new TicketBox(keys.tickets)
    this.tokens = new DeviceTokenVerifier(keys.deviceTokens, this.issuer)
    this.ticketBox = ticketBox
  }

  get tickets(): TicketBox {
    return this.ticketBox
  }

  verify(credential: Credential | null, nowMs: number): CredentialVerdict {
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
