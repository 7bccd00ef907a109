/** Tests of the times at which a device sends a keepalive and gives a connection up. */
import t from 'tap'
import { Keepalive } from '../../src/device/connection/keepalive.js'

const INTERVAL_SECONDS = 100
/** Four fifths of the interval, and 95% of the last fifth, because the random source of started() gives 0.95. */
const WAIT_MS = 99_000
const settings = { pongTimeoutMs: 15_000, keepaliveMsMin: 1_000, keepaliveMsMax: 1_000_000 }

function started(): Keepalive {
  const keepalive = new Keepalive(settings, () => 0.95)
  keepalive.start(0, INTERVAL_SECONDS)
  return keepalive
}

t.test('a device that only receives sends a PING after the interval', async (t) => {
  const keepalive = started()
  for (let now = 0; now < WAIT_MS; now += 1_000) {
    keepalive.heard(now)
    t.equal(keepalive.due(now), null)
  }
  t.equal(keepalive.due(WAIT_MS), 'ping')
})

t.test('frames that the device sends do not postpone the PING while the server is silent', async (t) => {
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
