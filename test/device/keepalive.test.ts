/** When a device asks whether the other end is still there. */
import t from 'tap'
import { Keepalive } from '../../src/device/connection/keepalive.js'

const INTERVAL_SECONDS = 100
/** With the draw of started(): four fifths of the interval, and 95% of the other fifth. */
const WAIT_MS = 99_000
const settings = { pongTimeoutMs: 15_000, keepaliveMsMin: 1_000, keepaliveMsMax: 1_000_000 }

function started(): Keepalive {
  const keepalive = new Keepalive(settings, () => 0.95)
  keepalive.start(0, INTERVAL_SECONDS)
  return keepalive
}

t.test('silence of the device: the server wants to hear from it', async (t) => {
  const keepalive = started()
  for (let now = 0; now < WAIT_MS; now += 1_000) {
    keepalive.heard(now)
    t.equal(keepalive.due(now), null)
  }
  t.equal(keepalive.due(WAIT_MS), 'ping')
})

t.test('silence of the server: what is sent into a dead connection does not put the PING off', async (t) => {
  const keepalive = started()
  for (let now = 0; now < WAIT_MS; now += 1_000) {
    keepalive.sent(now)
    t.equal(keepalive.due(now), null)
  }
  t.equal(keepalive.due(WAIT_MS), 'ping')
  keepalive.pinged(WAIT_MS)
  keepalive.sent(WAIT_MS + 14_000)
  t.equal(keepalive.due(WAIT_MS + 14_999), null)
  t.equal(keepalive.due(WAIT_MS + 15_000), 'half_open')
})
