/**
 * The devices of a group, by the registrations that they have in it. A group frame names these registrations, so that a
 * device hands the message to the right apps. Devices with the same numbers share one topic of the sockets and one frame:
 * mostly one for each group, because most devices have registration 1 only.
 */
import { GROUP_REGISTRATIONS_MAX } from '../../../protocol/encode.js'

/**
 * Most sets of numbers that a worker tells apart. A message is published once for each of them. The devices of all other
 * sets share a frame that names no registration: they go by its target.
 */
const SETS_MAX = 256

const UNNAMED = ''

export class Audiences {
  /** The sets that devices of this worker have or had, by their key. */
  private readonly sets = new Map<string, readonly number[]>([[UNNAMED, []]])

  /** The topic of the sockets for the devices that have these registrations in the group. */
  topicOf(subject: string, registrations: readonly number[]): string {
    return `${subject}#${this.keyOf(registrations)}`
  }

  /** The numbers to name in a frame for these devices. */
  namedOf(registrations: readonly number[]): readonly number[] {
    return this.sets.get(this.keyOf(registrations)) ?? []
  }

  /** Calls `publish` for each topic of a group, with the numbers to name. Returns the sum of its results. */
  publishAll(subject: string, publish: (topic: string, registrations: readonly number[]) => number): number {
    let subscribers = 0
    for (const [key, registrations] of this.sets) subscribers += publish(`${subject}#${key}`, registrations)
    return subscribers
  }

  private keyOf(registrations: readonly number[]): string {
    const key = registrations.join(',')
    if (this.sets.has(key)) return key
    if (this.sets.size >= SETS_MAX || registrations.length > GROUP_REGISTRATIONS_MAX) return UNNAMED
    this.sets.set(key, registrations)
    return key
  }
}

export const subjectOf = (topic: string): string => topic.slice(0, topic.lastIndexOf('#'))
