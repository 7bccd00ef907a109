/**
 * The words of the API for states and steps of a message. docs/send/statuses.md explains them to app servers, and a test
 * compares that page with these lists.
 */
import { FINAL_KINDS } from '../../store/events.js'

/** `status` of one message. */
export const MESSAGE_STATUSES = ['scheduled', 'accepted', 'queued', ...FINAL_KINDS, 'completed', 'sent'] as const
export type MessageStatusWord = (typeof MESSAGE_STATUSES)[number]

/** `status` of a message in a list. */
export const LISTED_STATUSES = ['pending', ...FINAL_KINDS] as const
export type ListedStatusWord = (typeof LISTED_STATUSES)[number]

/** `step` of an entry in a trace. */
export const TRACE_STEPS = ['scheduled', 'accepted', 'queued', ...FINAL_KINDS, 'late_ack', 'sent'] as const
export type TraceStepWord = (typeof TRACE_STEPS)[number]

/** `reason` of the step `queued`. */
export const QUEUE_REASONS = [
  'not_connected',
  'not_here',
  'window_full',
  'closed',
  'silent',
  'worker_dead',
  'slow',
  'clock',
  'redelivered',
] as const
export type QueueReason = (typeof QUEUE_REASONS)[number]

/** `reason` of the step `expired` for a message with `ttl` 0s, which is only for connected devices. */
export const ONLY_NOW_REASONS = ['not_connected', 'not_acknowledged'] as const
export type OnlyNowReason = (typeof ONLY_NOW_REASONS)[number]

/** `reason` of the step `failed`: the registration had ended before the message reached the device. */
export const REGISTRATION_ENDED = 'ended'

/** `why` of a waiting target. */
export const WAITING_REASONS = ['scheduled', 'routing', 'offline', 'not_acknowledged', 'window_full'] as const
export type WaitingReason = (typeof WAITING_REASONS)[number]
