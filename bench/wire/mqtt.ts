/** MQTT 3.1.1 with QoS 1 over WebSocket, spoken with mosquitto: a persistent session, and one topic for each device. */
import { once } from 'node:events'
import { connect as tcpConnect } from 'node:net'
import type { Mosquitto } from '../baselines/mosquitto.js'
import {
  connectPacket,
  Packet,
  PINGREQ,
  pubackPacket,
  publishPacket,
  readPacket,
  readPublish,
  subscribePacket,
} from '../generator/dialects/mqtt-packets.js'
import { WireClient } from './client.js'
import type { WireProtocol } from './measure.js'

export interface MqttWireOptions {
  device: string
  token: string
  keepaliveSeconds: number
  /** The payload of the push: the body of a NOTIFY, which is the most compact form of the same fields. */
  payload: Uint8Array
  contentBytes: number
}

export function mqttProtocol(broker: Mosquitto, options: MqttWireOptions): WireProtocol {
  const { device, token, keepaliveSeconds, payload, contentBytes } = options
  // A device may read its own topic only, so the topic contains the name of the device.
  const topic = `d/${device}`
  const open = async () => {
    const client = await WireClient.open({
      host: '127.0.0.1',
      port: broker.webSocketPort,
      path: '/mqtt',
      subprotocol: 'mqtt',
    })
    client.send(
      connectPacket({
        clientId: device,
        clean: false,
        keepaliveSeconds,
        credentials: { username: device, password: token },
      }),
    )
    await client.next(ofType(Packet.CONNACK))
    return client
  }
  return {
    name: 'mqtt',
    contentBytes,
    connect: async () => {
      const client = await open()
      client.send(subscribePacket(1, [topic]))
      await client.next(ofType(Packet.SUBACK))
      return client
    },
    // The broker keeps the subscription in the persistent session.
    resume: open,
    push: async (client) => {
      await publishOnce(broker, topic, payload)
      const message = await client.next(ofType(Packet.PUBLISH))
      const head = readPacket(message, 0, message.length)
      client.send(pubackPacket(readPublish(message, head?.start ?? 0).id))
    },
    keepalive: async (client) => {
      client.send(PINGREQ)
      await client.next(ofType(Packet.PINGRESP))
    },
  }
}

const ofType = (type: number) => (message: Buffer) => (message[0] as number) >> 4 === type

async function publishOnce(broker: Mosquitto, topic: string, payload: Uint8Array): Promise<void> {
  const socket = tcpConnect({ host: '127.0.0.1', port: broker.tcpPort })
  await once(socket, 'connect')
  socket.write(connectPacket({ clientId: 'bench-publisher', clean: true, keepaliveSeconds: 60 }))
  await once(socket, 'data')
  socket.write(publishPacket(topic, payload, 1, 1))
  await once(socket, 'data')
  socket.destroy()
}
