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
      /** When that token was issued; 0: not known. */
      tokenIssuedAtMs: number
      /** Empty: not known. */
      fleet: string
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
  /** One text for each fleet, which all sessions of its devices share. Only what we signed comes in here. */
  private readonly fleets = new Map<string, string>()

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
      const { device, tokenExpiresAtMs, tokenIssuedAtMs } = ticket
      const fleet = this.shared(ticket.fleet)
      return { ok: true, device, fleet, tokenExpiresAtMs, tokenIssuedAtMs, ticket }
    }
    if (!credential) return { ok: false, reason: 'bad_token' }
    const verdict = this.tokens.verify(credential.token, nowMs)
    if (!verdict.ok) return verdict
    const { device, expiresAtMs: tokenExpiresAtMs, issuedAtMs: tokenIssuedAtMs } = verdict.claims
    const fleet = this.shared(verdict.claims.fleet)
    return { ok: true, device, fleet, tokenExpiresAtMs, tokenIssuedAtMs, ticket: null }
  }

  private shared(fleet: string): string {
    const known = this.fleets.get(fleet)
    if (known !== undefined) return known
    this.fleets.set(fleet, fleet)
    return fleet
  }
}
