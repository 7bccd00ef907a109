import { closeSync, openSync, readdirSync } from 'node:fs'
import t from 'tap'
import { connectionsCap, descriptorsMax, descriptorsOpen } from '../../../src/transport/admission/descriptors.js'

const COUNT = 100

t.test('open descriptors are counted, whichever way', { skip: process.platform !== 'linux' }, async (t) => {
  const before = descriptorsOpen() ?? 0
  const opened = Array.from({ length: COUNT }, () => openSync('/dev/null', 'r'))
  t.equal(descriptorsOpen(), before + COUNT)
  // Reading the folder opens it.
  t.ok(Math.abs((descriptorsOpen() ?? 0) - readdirSync('/proc/self/fd').length) <= 1, 'as the folder lists them')
  for (const descriptor of opened) closeSync(descriptor)
  t.equal(descriptorsOpen(), before)
})

t.test('a cap is what is configured, or a share of the limit', async (t) => {
  t.equal(connectionsCap(123), 123)
  const max = descriptorsMax()
  t.equal(connectionsCap(0), max === null ? 10_000 : Math.floor(max * 0.9))
})
