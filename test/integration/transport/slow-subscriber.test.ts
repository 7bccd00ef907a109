/** The real sockets of a worker close a subscriber that is too slow for group messages, and skip no message to it. */
import { once } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import WebSocket from 'ws'
import { DEVICE_PATH } from '../../../protocol/frame.js'
import { Listener } from '../../../src/transport/socket/listener.js'
import type { Socket } from '../../../src/transport/socket/socket.js'

const MESSAGE_BYTES = 65_536
/** More than the kernel buffers between two sockets of one machine. */
const MESSAGES_MAX = 2_048

t.test('a subscriber that does not read is closed with 1006, and gets each message up to the close', async (t) => {
  const errors: unknown[] = []
  const listener = new Listener({
    ...{ host: '127.0.0.1', port: 0, tlsCertificate: '', tlsKey: '', proxyProtocolFrom: [] },
    backpressureBytesMax: MESSAGE_BYTES,
    onError: (_, error) => errors.push(error),
  })
  t.teardown(() => listener.close())
  let isClosed = false
  let opened: (socket: Socket) => void = () => {}
  const socketOfDevice = new Promise<Socket>((resolve) => {
    opened = resolve
  })
  const port = await listener.listen({
    admit: () => null,
    distrusted: () => {},
    opened,
    message: () => {},
    drained: () => {},
    closed: () => {
      isClosed = true
    },
  })
  const device = new WebSocket(`ws://127.0.0.1:${port}${DEVICE_PATH}`)
  const receivedNumbers: number[] = []
  device.on('message', (bytes: Buffer) => receivedNumbers.push(bytes.readUInt32BE()))
  const closed = new Promise<number>((resolve) => device.on('close', resolve))
  await once(device, 'open')
  const socket = await socketOfDevice
  socket.subscribe('news')
  device.pause()

  let sent = 0
  for (; sent < MESSAGES_MAX && !isClosed; sent++) {
    const message = Buffer.alloc(MESSAGE_BYTES)
    message.writeUInt32BE(sent)
    listener.publish('news', () => message)
    // Connections are closed only between two turns of the event loop.
    await setImmediate()
  }
  t.ok(isClosed, `closed after ${sent} messages`)
  device.resume()
  if (isClosed) t.equal(await closed, 1006)
  else device.terminate()
  t.same(
    receivedNumbers,
    receivedNumbers.map((_, n) => n),
  )
  t.ok(receivedNumbers.length < sent)
  t.same(errors, [])
})
