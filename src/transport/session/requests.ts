/** Requests of a device (REGISTER, SUBSCRIBE, ...) as the core gets them, and the ERROR frame that refuses one. */
import type { DeviceRequest } from '../../../protocol/envelope.js'
import type { DeviceFrame, ServerFrame } from '../../../protocol/frame-types.js'

/** An ERROR frame about a request or, if `request` is 0, about the connection. */
export function errorFrame(code: string, detail: string, request = 0, retryAfterMs = 0, connection = 0): ServerFrame {
  return { type: 'ERROR', code, detail, request, retryAfterMs, connection }
}

export type RequestFrame = Exclude<DeviceFrame, { type: 'HELLO' | 'ACK' | 'PING' | 'BYE' }>

/** @param fleet empty: not known */
export function deviceRequestOf(device: string, fleet: string, frame: RequestFrame): DeviceRequest {
  switch (frame.type) {
    case 'REGISTER':
      return { kind: 'register', device, fleet, application: frame.application, userToken: frame.userToken }
    case 'UNREGISTER':
      return { kind: 'unregister', device, registration: frame.registration }
    case 'SUBSCRIBE':
      return { kind: 'subscribe', device, registration: frame.registration, topic: frame.topic }
    case 'UNSUBSCRIBE':
      return { kind: 'unsubscribe', device, registration: frame.registration, topic: frame.topic }
  }
}
