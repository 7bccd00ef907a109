/**
 * Connects the connection machine to a socket, a clock and a store. It sets one alarm for all timers of the machine, and
 * flushes it once a turn. Devices, load tools and the simulation use the same driver.
 */
import type { Clock } from '../../clock.js'
import { DeviceError } from '../errors.js'
import type { ConnectionEvent } from '../events.js'
import type { Change } from '../state/state.js'
import type { StateStore } from '../state/state-store.js'
import { DeviceConnection } from './connection.js'
import type { DeviceSocket, Dial } from './dial.js'
import type { ConnectionOptions, ConnectionState, Sink } from './ports.js'

export interface DriverPorts {
  clock: Clock
  dial: Dial
  store: StateStore
}

export class ConnectionDriver implements Sink {
  private readonly machine: DeviceConnection
  private socket: DeviceSocket | null = null
  private cancelAlarm: (() => void) | null = null
  private alarmAtMs = Number.POSITIVE_INFINITY
  private flushing = false

  constructor(
    private readonly ports: DriverPorts,
    options: ConnectionOptions,
    private readonly onEvent: (event: ConnectionEvent) => void,
  ) {
    this.machine = new DeviceConnection(ports.store.state, this, options)
  }

  get state(): ConnectionState {
    return this.machine.state
  }

  get isRegistering(): boolean {
    return this.machine.isRegistering
  }

  get clockOffsetMs(): number {
    return this.machine.clockOffsetMs
  }

  /** Passes an input to the machine, then schedules the flush of its turn and its alarm. */
  run<T>(input: (machine: DeviceConnection, nowMs: number) => T): T {
    const result = input(this.machine, this.ports.clock.now())
    if (this.machine.isDirty && !this.flushing) {
      this.flushing = true
      // A microtask, so that the other inputs of this turn share the flush, without a timer.
      Promise.resolve().then(() => {
        this.flushing = false
        this.run((machine) => machine.flush())
      })
    }
    this.setAlarm()
    return result
  }

  /** Cancels the alarm. Stop the machine first. */
  dispose(): void {
    this.cancelAlarm?.()
    this.cancelAlarm = null
  }

  // ---- Sink -----------------------------------------------------------------------------------

  open(url: string): void {
    const mine: { socket: DeviceSocket | null } = { socket: null }
    const isCurrent = () => mine.socket !== null && this.socket === mine.socket
    mine.socket = this.ports.dial(url, {
      opened: () => {
        if (isCurrent()) this.run((machine, now) => machine.opened(now))
      },
      received: (bytes) => {
        if (isCurrent()) this.run((machine, now) => machine.received(now, bytes))
      },
      closed: (code, retryAfterMs, detail) => {
        if (!isCurrent()) return
        this.socket = null
        this.run((machine, now) => machine.closed(now, code, retryAfterMs, detail))
      },
    })
    this.socket = mine.socket
  }

  send(bytes: Uint8Array): void {
    this.socket?.send(bytes)
  }

  close(code: number, reason: string): void {
    const { socket } = this
    this.socket = null
    socket?.close(code, reason)
  }

  pause(): void {
    this.socket?.pause()
  }

  resume(): void {
    this.socket?.resume()
  }

  persist(changes: readonly Change[]): void {
    this.ports.store.write(changes, (error) => {
      this.run((machine, now) => {
        if (!error) machine.persisted(now)
        else machine.persistFailed(now, error instanceof DeviceError ? error : unwritable(error))
      })
    })
  }

  event(event: ConnectionEvent): void {
    this.onEvent(event)
  }

  /** Moves the alarm only to an earlier time: an alarm that fires too early costs less than one that moves with each frame. */
  private setAlarm(): void {
    const now = this.ports.clock.now()
    const inMs = this.machine.nextInMs(now)
    if (this.cancelAlarm && this.alarmAtMs <= now + inMs) return
    this.cancelAlarm?.()
    this.cancelAlarm = null
    if (!Number.isFinite(inMs)) return
    this.alarmAtMs = now + inMs
    this.cancelAlarm = this.ports.clock.after(inMs, () => {
      this.cancelAlarm = null
      this.run((machine, at) => machine.tick(at))
    })
  }
}

function unwritable(cause: Error): DeviceError {
  return new DeviceError('state_unwritable', cause.message, { cause })
}
