import t from 'tap'
import { type DeviceRecord, decodeDeviceRecord, encodeDeviceRecord, groupsOf } from '../../src/store/devices.js'

const registration = { project: 'acme', application: 'app_a', user: '', channel: 'native' as const, createdAtMs: 1 }
const record: DeviceRecord = {
  version: 6,
  nextNumber: 5,
  registrations: [
    { ...registration, number: 1, since: 10, addedVersion: 1 },
    { ...registration, number: 3, user: 'Anna Ö.', since: 30, addedVersion: 3 },
    { ...registration, number: 4, application: 'app_b', user: 'Anna Ö.', since: 40, addedVersion: 4 },
  ],
  topics: [
    { registration: 4, project: 'acme', topic: 'news', since: 60, addedVersion: 6 },
    { registration: 1, project: 'acme', topic: 'news', since: 50, addedVersion: 5 },
  ],
}

t.test('a device record decodes to the record that was encoded', async (t) => {
  t.same(decodeDeviceRecord(encodeDeviceRecord(record)), record)
})

t.test('a device record of an unknown version is refused', async (t) => {
  t.throws(() => decodeDeviceRecord(Buffer.from([0x91, 0x63])), /unknown version/)
})

t.test('a group that two registrations share appears once, with both of them and its earliest addition', async (t) => {
  const anna = `=${Buffer.from('Anna Ö.').toString('base64url')}`
  t.same(groupsOf(record), [
    { subject: 'broadcast.acme.app.app_a', registrations: [1, 3], since: 10, addedVersion: 1 },
    { subject: `broadcast.acme.user.${anna}`, registrations: [3, 4], since: 30, addedVersion: 3 },
    { subject: 'broadcast.acme.app.app_b', registrations: [4], since: 40, addedVersion: 4 },
    { subject: 'broadcast.acme.topic.news', registrations: [1, 4], since: 50, addedVersion: 5 },
  ])
})

t.test('when the first subscriber of a group leaves, the group starts where the next one joined', async (t) => {
  const topics = record.topics.filter((topic) => topic.registration !== 1)
  const news = groupsOf({ ...record, topics }).find(({ subject }) => subject.endsWith('.news'))
  t.same(news, { subject: 'broadcast.acme.topic.news', registrations: [4], since: 60, addedVersion: 6 })
})
