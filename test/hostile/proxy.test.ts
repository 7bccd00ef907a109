/** The listener must not believe PROXY headers of peers outside of proxyProtocolFrom. */
import t from 'tap'
import { Close } from '../../protocol/close-codes.js'
import { Listener } from '../../src/transport/socket/listener.js'
import { streamOf } from './chance.js'
import { proxyHeaders } from './http.js'
import { upgradeRequest } from './websocket.js'
import { Wire } from './wire.js'

const SEED = 4

t.test('with a PROXY header of an unknown peer the address of the connection is that of the peer', async (t) => {
  const addresses: string[] = []
  const listener = new Listener({
    host: '127.0.0.1',
    port: 0,
    tlsCertificate: '',
    tlsKey: '',
    proxyProtocolFrom: [],
    backpressureBytesMax: 65_536,
    onError: (handler, error) => t.fail(`${handler}: ${String(error)}`),
  })
  t.teardown(() => listener.close())
  const port = await listener.listen({
    admit: (address) => {
      addresses.push(address)
      return null
    },
    distrusted: () => undefined,
    opened: (socket) => socket.end(Close.going_away.code, ''),
    message: () => undefined,
    drained: () => undefined,
    closed: () => undefined,
  })
  const random = streamOf(SEED, 0)
  for (const [name, make] of Object.entries(proxyHeaders)) {
    const header = make(random)
    const wire = new Wire({ host: '127.0.0.1', port }, '127.0.0.1')
    wire.write(typeof header === 'string' ? Buffer.from(header) : header)
    wire.write(upgradeRequest(random))
    await wire.until(() => wire.end !== null || wire.status > 0, 300)
    wire.leave()
    t.ok(
      addresses.every((address) => address === '127.0.0.1'),
      `${name}: ${addresses.join()}`,
    )
  }
  t.ok(addresses.length > 0, 'some connections were upgraded')
})
