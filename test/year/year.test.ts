/** A short year of a small fleet; `npm run year` runs a whole one. And a year in which something is broken on purpose. */
import t from 'tap'
import { queueStream } from '../../protocol/subjects.js'
import { sleep } from '../../src/clock.js'
import { DeviceError } from '../../src/device/errors.js'
import type { Act } from './calendar.js'
import type { CheckName } from './checks.js'
import { SPLIT } from './settings.js'
import { runYear, type YearResult } from './year.js'

t.setTimeout(180_000)

/** A message for a device that is away is in its queue by then. */
const QUEUED_MS = 10_000
const WEEK = { devices: 30, days: 8, seed: 1 }

const broken = ({ checks }: YearResult) => checks.filter(({ ok }) => !ok)
const names = (result: YearResult): CheckName[] => broken(result).map(({ name }) => name)

t.test('in a month of 50 devices nothing is lost, refused without a reason or left to hands', async (t) => {
  const result = await runYear({ devices: 50, days: 30, seed: 1 })
  t.same(broken(result), [])
  t.equal(result.ok, true)
  t.ok(result.judged > 300, `${result.judged} targets were judged`)
  t.ok(result.renewals > 10, `${result.renewals} tokens were renewed`)
})

t.test('a week in which nothing happens but messages is judged as good', async (t) => {
  const result = await runYear({ ...WEEK, acts: [] })
  t.same(broken(result), [])
})

t.test('devices that cannot renew their tokens are found', async (t) => {
  const off: Act = {
    name: 'renewal is switched off',
    day: 0,
    run: async (world) => {
      world.renew = () => Promise.reject(new DeviceError('renew_unreachable'))
    },
  }
  const result = await runYear({ ...WEEK, acts: [off] })
  t.equal(result.ok, false)
  t.same(names(result), ['hands', 'tokens'])
})

t.test('a retention that removes what devices still wait for is found', async (t) => {
  const purge: Act = {
    name: 'queues are purged',
    day: 5,
    run: async ({ broker, clock }, traffic) => {
      const [to] = traffic.addressees('north').filter(({ device }) => device.isSettled)
      if (!to) throw new Error('no device is connected')
      to.device.awayUntilDay = 7
      await to.device.stop()
      await traffic.toDevices('north', [to])
      await sleep(clock, QUEUED_MS)
      for (let i = 0; i < SPLIT; i++) {
        broker.server.stream(queueStream(i)).purge('>', Number.POSITIVE_INFINITY, clock.now())
      }
    },
  }
  const result = await runYear({ ...WEEK, acts: [purge] })
  t.equal(result.ok, false)
  t.ok(result.lost > 0, `${result.lost} lost`)
  t.ok(names(result).includes('lost'))
})
