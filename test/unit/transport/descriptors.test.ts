import { closeSync, openSync, readdirSync } from 'node:fs'
import t from 'tap'
import { connectionsCap, descriptorsMax, descriptorsOpen } from '../../../src/transport/admission/descriptors.js'

const COUNT = 100

t.test(
  'descriptorsOpen counts the descriptors that /proc/self/fd lists',
  { skip: process.platform !== 'linux' },
  async (t) => {
    const before = descriptorsOpen() ?? 0
    const opened = Array.from({ length: COUNT }, () => openSync('/dev/null', 'r'))
    t.equal(descriptorsOpen(), before + COUNT)
    // Listing the folder opens one more descriptor.
    t.ok(Math.abs((descriptorsOpen() ?? 0) - readdirSync('/proc/self/fd').length) <= 1)
    for (const descriptor of opened) closeSync(descriptor)
    t.equal(descriptorsOpen(), before)
  },
)

t.test('the cap of connections is the configured number, or else nine tenths of the descriptor limit', async (t) => {
  t.equal(connectionsCap(123), 123)
  const max = descriptorsMax()
  t.equal(connectionsCap(0), max === null ? 10_000 : Math.floor(max * 0.9))
})
