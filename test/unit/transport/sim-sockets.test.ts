/** The simulated sockets: a fault here would look like a loss by a worker in the simulations. */
import t from 'tap'
import type { Socket, SocketHandlers } from '../../../src/transport/socket/socket.js'
import { SimBroker } from '../../sim/broker.js'
import { SimSockets } from './sim-sockets.js'

const DELAY_MS = 10

function stage() {
  const { clock } = new SimBroker({ seed: 1 })
  const sockets = new SimSockets({ clock, delayMs: () => DELAY_MS })
  const opened: Socket[] = []
  const received: number[] = []
  const handlers: SocketHandlers = {
    admit: () => null,
    distrusted: () => undefined,
    opened: (socket) => opened.push(socket),
    message: (_, bytes) => received.push(bytes.length),
    drained: () => undefined,
    closed: () => undefined,
  }
  void sockets.listen(handlers)
  const connect = () => {
    const end = sockets.connect()
    const socket = opened.at(-1)
    if (!end || !socket) throw new Error('refused')
    const closes: number[] = []
    end.onClosed = (code) => closes.push(code)
    return { end, socket, closes }
  }
  return { clock, sockets, received, connect }
}

t.test('a close that a worker sent before it died reaches the device', async (t) => {
  const { clock, sockets, connect } = stage()
  const { socket, closes } = connect()
  socket.end(4041, 'unavailable')
  sockets.crash()
  await clock.advance(DELAY_MS)
  t.same(closes, [4041])
})

t.test('a dead worker receives and sends nothing, and its device is closed with 1006 at once, once', async (t) => {
  const { clock, sockets, received, connect } = stage()
  const { end, socket, closes } = connect()
  end.send(new Uint8Array(3))
  sockets.crash()
  t.same(closes, [1006])
  t.equal(socket.send(new Uint8Array(1)), 'dropped')
  socket.end(1001, 'going away')
  await clock.advance(DELAY_MS)
  t.same(received, [])
  t.same(closes, [1006])
})
