/** The core's side of the groups of the device in oneWorker(), and the group frames that the device received. */
import { encodeNotifyGroupBody } from '../../../protocol/encode.js'
import { encodeControlRequest } from '../../../protocol/envelope.js'
import { Bucket, controlSubject } from '../../../protocol/subjects.js'
import { BroadcastLog } from '../../../src/store/broadcast.js'
import { DeviceStore } from '../../../src/store/devices.js'
import type { OneWorker } from './one-worker.js'

function bodyOf(name: string, id: bigint): Uint8Array {
  const content = { expiresAtSeconds: 4e9, priority: 'normal', collapseKey: '', title: '', message: '' } as const
  return encodeNotifyGroupBody({
    ...content,
    id,
    target: { kind: 'topic', name },
    project: 'p',
    data: new Uint8Array(),
  })
}

/** The bytes in memory of a message with a short name, a small id and a small sequence. */
export const MESSAGE_BYTES = bodyOf('a', 1n).length

export function groupsOf({ clock, core, device, worker }: OneWorker) {
  const broadcast = new BroadcastLog(core)
  const devices = new DeviceStore(core.table(Bucket.DEVICES))
  const notice = () => {
    const { instance, worker: name } = worker.owner
    core.bus.publish(controlSubject(instance, name), encodeControlRequest({ kind: 'refresh', device }))
  }
  return {
    broadcast,
    devices,
    /** Tells the worker that the groups of the device may have changed. */
    notice,
    /** Appends a message to the topic `name`. */
    send: (name: string, id: bigint, ttlMs = 1e9) => {
      const body = bodyOf(name, id)
      const target = { kind: 'topic', name } as const
      const times = { acceptedAtMs: clock.now(), expiresAtMs: clock.now() + ttlMs }
      return clock.advanceUntil(broadcast.append({ id, project: 'p', ...target, collapseKey: '', body, ...times }))
    },
    /** Stores the subscription and notifies the worker. */
    subscribe: async (topic: string, registrations: readonly number[] = [1]) => {
      const since = (await clock.advanceUntil(broadcast.log.state())).lastSequence
      const update = devices.update(device, (record) => {
        const version = record.version + 1
        const added = registrations.map((registration) => {
          return { registration, project: 'p', topic, since, addedVersion: version }
        })
        return { ...record, version, topics: [...record.topics, ...added] }
      })
      await clock.advanceUntil(update)
      notice()
    },
    /** Without a notice. Resolves with the version of the record, on a clock that runs. */
    unsubscribe: async (topic: string) => {
      const record = await devices.update(device, (before) => {
        return { ...before, version: before.version + 1, topics: before.topics.filter((t) => t.topic !== topic) }
      })
      return record.version
    },
  }
}

export type Phone = ReturnType<OneWorker['connect']>
export const groupIds = ({ frames }: Phone) =>
  frames.flatMap((frame) => (frame.type === 'NOTIFY_GROUP' ? [frame.id] : []))
export const cursors = ({ frames }: Phone) =>
  frames.flatMap((frame) => (frame.type === 'CAUGHT_UP' ? [frame.cursor] : []))
