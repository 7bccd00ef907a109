import t from 'tap'
import { smoke } from './support/smoke.js'

// The test starts systems of several processes, on a machine that may be busy.
t.setTimeout(240_000)

interface Row {
  peer: string
  lost: number
}

// mosquitto is left out, because the scenario would install it, which a machine may not allow.
t.test('peers measures every server that needs no installation, and loses no message', async (t) => {
  const result = await smoke(t, 'peers', {
    connections: 40,
    seconds: 1,
    messages: 3,
    rounds: 1,
    window: 80,
    only: 'borealis,nats-server,ws,bare',
  })
  const rows = result.peers as Row[]
  t.same(
    rows.map(({ peer, lost }) => [peer, lost]),
    [
      ['borealis', 0],
      ['nats-server', 0],
      ['ws', 0],
      ['bare', 0],
    ],
  )
})
