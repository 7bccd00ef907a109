/** Admission refuses a connection before the upgrade, with a reason and a time to come back. */
import t from 'tap'
import { Admission } from '../../../src/transport/admission/admission.js'
import { Throughput } from '../../../src/transport/admission/throughput.js'

const limits = {
  ...{ connectionsMax: 4, connectionsPerAddressMax: 2, handshakesPerSecondMax: 3 },
  ...{ handshakesInFlightMax: 150, loopLagMsMax: 100 },
}
const SECOND_1 = { ms: 0, tick: 1 }
const SECOND_2 = { ms: 0, tick: 2 }

/** An admission with these limits. A test sets the load; the worker finishes 100 handshakes a second. */
function admissionUnderLoad() {
  const load = { lagMs: 0, greeting: 0, handshaking: 0 }
  const admission = new Admission(
    limits,
    { lagMs: () => load.lagMs, greeting: () => load.greeting, handshaking: () => load.handshaking },
    new Throughput(100),
  )
  return { admission, load }
}

t.test('an address with connectionsPerAddressMax connections is refused until one of them closes', async (t) => {
  const { admission } = admissionUnderLoad()
  t.equal(admission.admit('a', SECOND_1), null)
  admission.opened('a')
  admission.opened('a')
  t.match(admission.admit('a', SECOND_1), { reason: 'address', retryAfterSeconds: Number })
  t.equal(admission.admit('b', SECOND_1), null, 'another address')
  admission.closed('a')
  t.equal(admission.admit('a', SECOND_1), null)
})

t.test('more connections than handshakesPerSecondMax are refused until the next second', async (t) => {
  const { admission } = admissionUnderLoad()
  for (let n = 0; n < limits.handshakesPerSecondMax; n++) t.equal(admission.admit('b', SECOND_1), null)
  t.match(admission.admit('b', SECOND_1), { reason: 'rate', retryAfterSeconds: Number })
  t.equal(admission.admit('b', SECOND_2), null)
})

t.test('descriptors that are no connections count towards connectionsMax', async (t) => {
  const { admission } = admissionUnderLoad()
  admission.opened('a')
  admission.descriptorsCounted(5)
  t.match(admission.admit('b', SECOND_1), { reason: 'full', retryAfterSeconds: Number })
  admission.descriptorsCounted(1)
  t.equal(admission.admit('b', SECOND_1), null)
})

t.test('connections are refused while the event loop lags more than loopLagMsMax', async (t) => {
  const { admission, load } = admissionUnderLoad()
  load.lagMs = limits.loopLagMsMax + 1
  t.match(admission.admit('b', SECOND_1), { reason: 'lag', retryAfterSeconds: Number })
  load.lagMs = limits.loopLagMsMax
  t.equal(admission.admit('b', SECOND_1), null)
})

t.test('connections are refused while handshakes for a second of work are in progress', async (t) => {
  const { admission, load } = admissionUnderLoad()
  load.handshaking = 60
  load.greeting = 40
  t.match(admission.admit('b', SECOND_1), { reason: 'crowd', retryAfterSeconds: Number })
  load.greeting = 39
  t.equal(admission.admit('b', SECOND_1), null)
})

t.test('a draining worker refuses every connection', async (t) => {
  const { admission } = admissionUnderLoad()
  admission.drain()
  t.match(admission.admit('b', SECOND_1), { reason: 'draining', retryAfterSeconds: Number })
})
