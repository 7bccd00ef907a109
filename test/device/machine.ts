/**
 * The model of connection.test.ts: a connection machine with a virtual clock, a state store that a test may fail or
 * crash, and a server that sends any frames. Every effect of the machine is checked when it happens; a violated rule
 * throws.
 */
import { decodeFrames } from '../../protocol/decode.js'
import { encodeFrames } from '../../protocol/encode.js'
import { EMPTY_MESSAGE } from '../../protocol/frame.js'
import type { DeviceFrame, ServerFrame } from '../../protocol/frame-types.js'
import { DeviceConnection } from '../../src/device/connection/connection.js'
import type { Sink } from '../../src/device/connection/ports.js'
import { DeviceError } from '../../src/device/errors.js'
import type { ConnectionEvent } from '../../src/device/events.js'
import { type DeviceSettings, deviceSettings } from '../../src/device/settings.js'
import { type Change, DeviceState } from '../../src/device/state/state.js'
import { KNOWN } from './support.js'

export class Violation extends Error {}

function must(holds: boolean, invariant: string): void {
  if (!holds) throw new Violation(invariant)
}

export class MachineModel implements Sink {
  now = Date.UTC(2026, 0, 1)
  memory = new DeviceState(1_000)
  /** The durable state, which survives a crash. */
  readonly disk = new DeviceState(1_000)
  machine: DeviceConnection
  readonly sent: DeviceFrame[] = []
  /** Number of empty messages (keepalives) that the machine sent. */
  pings = 0
  readonly events: ConnectionEvent[] = []
  socketOpen = false
  /** The last close code of the machine; 0 before its first close. */
  closedWith = 0
  paused = false
  /** Ids that arrived on this connection and that the machine must still acknowledge. */
  owed = new Set<bigint>()
  /** Ids that arrived on this connection. */
  private arrived = new Set<bigint>()
  /** How often each id was shown to the app, without and with the mark of a possible duplicate. */
  readonly shown = new Map<bigint, { plain: number; marked: number }>()
  /** The ids in the inbox at the last start. */
  private restored: bigint[] = []
  private writes: Change[][] = []
  private failed: Change[] = []
  private highestConnection = 0
  private framesOnSocket = 0

  constructor(
    private readonly random: () => number,
    readonly settings: DeviceSettings = deviceSettings(),
    known: readonly Change[] = KNOWN,
  ) {
    for (const change of known) for (const state of [this.memory, this.disk]) state.apply(change)
    this.machine = this.boot()
  }

  // ---- inputs of the machine ------------------------------------------------------------------

  openSocket(): void {
    if (this.machine.state !== 'connecting') return
    this.socketOpen = true
    this.machine.opened(this.now)
  }

  receive(...frames: ServerFrame[]): void {
    if (!this.socketOpen || this.paused) return
    const live = this.machine.state === 'live'
    for (const frame of frames) if (frame.type === 'NOTIFY') this.arrived.add(frame.id)
    this.machine.received(this.now, encodeFrames(frames))
    if (!live || this.machine.state !== 'live') return
    for (const frame of frames) if (frame.type === 'NOTIFY') this.owed.add(frame.id)
  }

  /** Delivers an empty message, the answer to a keepalive. */
  receiveEmpty(): void {
    if (this.socketOpen && !this.paused) this.machine.received(this.now, EMPTY_MESSAGE)
  }

  loseSocket(code: number): void {
    if (this.machine.state !== 'connecting' && !this.socketOpen) return
    this.gone()
    this.machine.closed(this.now, code)
  }

  advance(ms: number): void {
    this.now += ms
    this.machine.tick(this.now)
  }

  endTurn(): void {
    this.machine.flush()
  }

  /** Makes the oldest write durable, with the writes that failed before it. */
  confirm(): void {
    const changes = this.writes.shift()
    if (!changes) return
    for (const change of [...this.failed, ...changes]) this.disk.apply(change)
    this.failed = []
    this.machine.persisted(this.now)
  }

  failWrite(): void {
    const changes = this.writes.shift()
    if (!changes) return
    this.failed.push(...changes)
    this.machine.persistFailed(this.now, new DeviceError('state_unwritable'))
  }

  /** Ends the process at once, and starts it again from the durable state. */
  crash(): void {
    this.gone()
    this.writes = []
    this.failed = []
    this.events.length = 0
    this.memory = new DeviceState(1_000)
    for (const change of this.disk.snapshot()) this.memory.apply(change)
    this.machine = this.boot()
    this.restored = [...this.memory.inbox.keys()]
  }

  /** Runs the app's handler for the pushes of an earlier run in the inbox, and for the new notifications. */
  handOver(): void {
    for (const id of this.restored.splice(0)) {
      this.show(id, true)
      this.machine.done(this.now, id)
    }
    for (const event of this.events.splice(0)) {
      if (event.kind !== 'notification') continue
      const { id } = event.notification
      must(this.memory.inbox.has(id), 'a push that is handed over is in the inbox')
      this.show(id, false)
      this.machine.done(this.now, id)
    }
  }

  /** Ends turns, confirms writes and hands over until the machine is at rest. */
  settle(): void {
    for (let round = 0; round < 20 && !this.isAtRest; round++) {
      this.endTurn()
      this.confirm()
      this.handOver()
    }
    must(this.isAtRest, 'a machine without further inputs comes to rest')
    if (this.machine.state === 'live') must(this.owed.size === 0, `unacknowledged: ${[...this.owed].join()}`)
  }

  private get isAtRest(): boolean {
    const idle = this.events.length === 0 && this.restored.length === 0
    return idle && this.writes.length === 0 && !this.machine.isDirty
  }

  // ---- Sink -----------------------------------------------------------------------------------

  open(_url?: string): void {
    this.gone()
    this.framesOnSocket = 0
  }

  send(bytes: Uint8Array): void {
    must(this.socketOpen, 'nothing is sent on a socket that is not open')
    if (bytes.length === 0) {
      must(this.framesOnSocket > 0, 'HELLO is the first frame')
      this.pings++
      return
    }
    const { frames, fault } = decodeFrames(bytes, { from: 'device', frameBytesMax: 16_384 })
    must(fault === null, `the device sends whole frames: ${fault?.detail}`)
    for (const frame of frames) this.check(frame as DeviceFrame)
  }

  close(code: number): void {
    this.closedWith = code
    this.gone()
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
  }

  persist(changes: readonly Change[]): void {
    this.writes.push([...changes])
  }

  event(event: ConnectionEvent): void {
    this.events.push(event)
    if (event.kind !== 'notification') return
    must(this.disk.hasSeen(event.notification.id), 'I2: a push is durable before it is handed over')
  }

  private check(frame: DeviceFrame): void {
    this.sent.push(frame)
    must(
      (this.framesOnSocket === 0) === (frame.type === 'HELLO'),
      'HELLO is the first frame of a connection, and comes once',
    )
    this.framesOnSocket++
    if (frame.type === 'HELLO') {
      must(
        frame.connection > this.highestConnection,
        `connection number ${frame.connection} follows ${this.highestConnection}`,
      )
      must(this.disk.connection >= frame.connection, 'the connection number is durable before HELLO')
      this.highestConnection = frame.connection
    }
    if (frame.type !== 'ACK') return
    for (const id of frame.ids) {
      must(this.arrived.has(id), 'an id is acknowledged on the connection on which it arrived')
      must(this.disk.hasSeen(id), 'I2: a push is durable before it is acknowledged')
      this.owed.delete(id)
    }
  }

  private show(id: bigint, marked: boolean): void {
    const count = this.shown.get(id) ?? { plain: 0, marked: 0 }
    count[marked ? 'marked' : 'plain']++
    this.shown.set(id, count)
    must(count.plain <= 1, `I2: ${id} was shown twice without a mark`)
    must(marked || count.marked === 0, `I2: ${id} was shown without a mark after it was shown with one`)
  }

  private gone(): void {
    this.socketOpen = false
    this.paused = false
    this.owed = new Set()
    this.arrived = new Set()
  }

  private boot(): DeviceConnection {
    const client = { name: 'test', version: '1', platform: 'model' }
    const machine = new DeviceConnection(this.memory, this, {
      url: 'ws://127.0.0.1',
      client,
      settings: this.settings,
      random: this.random,
    })
    machine.start(this.now)
    return machine
  }
}
