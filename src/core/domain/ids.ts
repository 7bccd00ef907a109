/** Ids of messages and registrations, as the rest of the core asks for them. */
import type { RegistrationAddress } from './registration-id.js'

/** Unique message ids. Both throw CodedError `unavailable` while this process holds no node number. */
export interface IdSource {
  next(partition: number): bigint
  /** See MessageIdSource. */
  nextBlock(): bigint
}

/** The registrationId by which senders know a registration. */
export type RegistrationIdOf = (address: RegistrationAddress) => string
