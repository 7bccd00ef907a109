/** Interfaces to make ids of messages and registrations. */
import type { RegistrationAddress } from './registration-id.js'

/** Makes unique message ids. Methods throw CodedError `unavailable` while this process has no node number. */
export interface IdSource {
  next(partition: number): bigint
  /** See MessageIdSource. */
  nextBlock(): bigint
}

/** Encodes the registrationId that senders use. */
export type RegistrationIdOf = (address: RegistrationAddress) => string
