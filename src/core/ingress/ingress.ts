/**
 * Accepts messages that are published to NATS (`push.send.<project>`, stream INGRESS), in JSON or msgpack according to their
 * `Content-Type`. They go through the same steps as messages over HTTP: validate, resolve, accept.
 *
 * A record is acknowledged when its message is stored, or when it is in DEAD_LETTERS with the reason. In all other cases
 * JetStream delivers it again, so nothing is lost. A redelivery makes no second message, because the message id comes from
 * the record's position in the stream: directly for an immediate message to a device, else through an idempotency key.
 */
import { CodedError, Errors } from '../../../protocol/errors.js'
import { DEAD_LETTERS_STREAM, deadLetterSubject, INGRESS_STREAM } from '../../../protocol/subjects.js'
import type { MacKeys } from '../../keyring.js'
import type { Broker, Consumption, Delivery, Log, Subscription } from '../../nats/broker.js'
import type { Logger } from '../../observe/log.js'
import type { AcceptCommand, AcceptMessage } from '../domain/commands.js'
import { toCodedError } from '../domain/errors.js'
import { parseJson } from '../domain/json.js'
import { fingerprintOf, type MessageFormat, type SendMessage } from '../domain/message.js'
import { decodeMsgpack } from '../domain/msgpack/decode.js'
import { MsgpackError } from '../domain/msgpack/error.js'
import { resolveTargets } from '../domain/resolve-targets.js'
import type { Directory } from '../tenants/directory.js'
import type { IngressSettings } from './settings.js'

export interface IngressOptions {
  broker: Broker
  directory: Directory
  registrationKeys: MacKeys
  accept: AcceptMessage
  settings: IngressSettings
  messages: MessageFormat
  /** Longest body accepted; the same limit as over HTTP. */
  bodyBytesMax: number
  log: Logger
}

/** A record that causes an internal error this often is taken for the cause, and goes to DEAD_LETTERS. */
const INTERNAL_ATTEMPTS_MAX = 5
const DURABLE = 'ingress'
const DETAIL_CHARACTERS_MAX = 512
/** The data of a message is nested in the body and in `notification`. */
const DEPTH_ABOVE_DATA = 2

interface KnownStream {
  /** Identifies this creation of the stream: a stream that is created again counts from 1 again. */
  incarnation: number
  /**
   * The last sequence when this process connected. A record up to here may have been accepted before, even if its delivery
   * count is 1: a killed nats-server forgets the acknowledgements and delivery counts of its last moments. Its end also
   * breaks the connection, after which this value is read again.
   */
  lastSequenceAtConnect: number
}

export class Ingress {
  private readonly deadLetters: Log
  private readonly inFlight = new Set<Promise<void>>()
  private consumption: Consumption | null = null
  /** Null: not read since the last change of the connection. */
  private stream: KnownStream | null = null
  private reading: Promise<KnownStream> | null = null
  private statusChanges = 0
  private status: Subscription | null = null

  constructor(private readonly options: IngressOptions) {
    this.deadLetters = options.broker.log(DEAD_LETTERS_STREAM)
  }

  /** Rejects with BrokerError. */
  async start(): Promise<void> {
    const { broker, settings } = this.options
    const { ackWaitMs, pendingMax } = settings
    this.status = broker.onStatus(() => {
      this.statusChanges++
      this.stream = null
    })
    try {
      await this.readStream()
      const stream = broker.log(INGRESS_STREAM)
      this.consumption = await stream.consume({ durable: DURABLE, ackWaitMs, pendingMax }, (delivery) => {
        const done = this.handle(delivery).finally(() => this.inFlight.delete(done))
        this.inFlight.add(done)
      })
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  /** Takes no further records, and resolves when all pending ones are acknowledged or nacked. */
  async stop(): Promise<void> {
    this.status?.unsubscribe()
    await this.consumption?.stop()
    this.consumption = null
    await Promise.all(this.inFlight)
  }

  /** Never rejects: after a temporary error it nacks the record. */
  private async handle(delivery: Delivery): Promise<void> {
    const project = delivery.subject.slice(delivery.subject.lastIndexOf('.') + 1)
    try {
      await this.send(project, delivery)
      delivery.ack()
    } catch (error) {
      const coded = toCodedError(error, this.options.log, `ingress record ${delivery.sequence}`)
      await this.refuse(project, delivery, coded)
    }
  }

  private async send(projectId: string, delivery: Delivery): Promise<void> {
    const { directory, accept, messages, bodyBytesMax } = this.options
    const project = await directory.project(projectId)
    if (!project) throw new CodedError('unknown_project')
    if (!project.isActive) throw new CodedError('project_inactive')
    if (delivery.body.length > bodyBytesMax) {
      throw new CodedError('payload_too_large', undefined, { bytesMax: bodyBytesMax })
    }
    const send = messages.read(decodeBody(delivery, messages.limits.dataDepthMax), delivery.storedAtMs)
    const { command, rejected } = await resolveTargets(this.options, projectId, send)
    if (send.validateOnly) return
    await accept({ ...command, ...(await this.identify(delivery, send)) })
    if (rejected.length > 0) {
      // A publisher gets no answer, so DEAD_LETTERS also reports the rejected targets of an accepted message.
      const codes = [...new Set(rejected.map(({ code }) => code))].join(', ')
      const error = new CodedError(
        rejected[0]?.code ?? 'internal',
        `${rejected.length} targets were rejected: ${codes}`,
      )
      await this.deadLetter(projectId, delivery, error, JSON.stringify({ rejected }))
    }
  }

  /** Returns the part of the command that makes a redelivery of the record the same message. */
  private async identify(
    delivery: Delivery,
    send: SendMessage,
  ): Promise<Pick<AcceptCommand, 'acceptedAtMs' | 'idempotency' | 'position'>> {
    const { sequence, storedAtMs, deliveryCount } = delivery
    const { incarnation, lastSequenceAtConnect } = this.stream ?? (await this.readStream())
    if (send.type === 'device' && send.notBeforeMs === null) {
      const isRepeat = deliveryCount > 1 || sequence <= lastSequenceAtConnect
      return { position: { incarnation, sequence, storedAtMs, isRepeat } }
    }
    // The time is part of the key, because a stream that has lost its last records assigns their sequences again.
    const key = `ingress.${incarnation}.${sequence}.${storedAtMs}`
    return { acceptedAtMs: storedAtMs, idempotency: { key, fingerprint: fingerprintOf(send) } }
  }

  /** Concurrent callers share one read. Rejects with BrokerError. */
  private readStream(): Promise<KnownStream> {
    this.reading ??= this.fetchStream().finally(() => {
      this.reading = null
    })
    return this.reading
  }

  private async fetchStream(): Promise<KnownStream> {
    const statusChanges = this.statusChanges
    const { incarnation, lastSequence } = await this.options.broker.log(INGRESS_STREAM).state()
    const stream = { incarnation, lastSequenceAtConnect: lastSequence }
    // If the connection broke during the read, the result serves the current callers only.
    if (statusChanges === this.statusChanges) this.stream = stream
    return stream
  }

  private async refuse(project: string, delivery: Delivery, error: CodedError): Promise<void> {
    const isCallersFault = Errors[error.code].owner === 'caller'
    const isPoison = error.code === 'internal' && delivery.deliveryCount >= INTERNAL_ATTEMPTS_MAX
    if (!isCallersFault && !isPoison) {
      delivery.nack(this.options.settings.retryMs)
      return
    }
    try {
      await this.deadLetter(project, delivery, error, delivery.body)
      delivery.ack()
    } catch (failure) {
      this.options.log.warn({ error: failure, sequence: delivery.sequence }, 'cannot store a dead letter')
      delivery.nack(this.options.settings.retryMs)
    }
  }

  /** Stores a record in DEAD_LETTERS. Its headers have the reason (`code`, `detail`) and its sequence in INGRESS. */
  private async deadLetter(
    project: string,
    delivery: Delivery,
    error: CodedError,
    body: Uint8Array | string,
  ): Promise<void> {
    const contentType = typeof body === 'string' ? 'application/json' : headerOf(delivery, 'content-type')
    const headers: Record<string, string> = {
      code: error.code,
      detail: oneLine(error.message),
      'ingress-sequence': String(delivery.sequence),
    }
    if (contentType) headers['Content-Type'] = oneLine(contentType)
    await this.deadLetters.append(deadLetterSubject(project), typeof body === 'string' ? Buffer.from(body) : body, {
      messageId: `dead.${delivery.storedAtMs}.${delivery.sequence}`,
      headers,
    })
  }
}

/** Decodes a body according to its `Content-Type`; default: JSON. */
function decodeBody(delivery: Delivery, dataDepthMax: number): unknown {
  const type = (headerOf(delivery, 'content-type') ?? 'application/json').split(';', 1)[0]?.trim().toLowerCase()
  if (type === 'application/json') return parseJson(delivery.body)
  if (type === 'application/msgpack' || type === 'application/x-msgpack') {
    return parseMsgpack(delivery.body, dataDepthMax + DEPTH_ABOVE_DATA)
  }
  throw new CodedError('unsupported_media_type', 'Content-Type must be application/json or application/msgpack')
}

function parseMsgpack(body: Uint8Array, depthMax: number): unknown {
  try {
    return decodeMsgpack(body, depthMax)
  } catch (error) {
    if (error instanceof MsgpackError)
      throw new CodedError('invalid_request', `the body: ${error.message}`, { field: '' })
    throw error
  }
}

/** NATS preserves the case of header names, so the lookup ignores it. */
function headerOf(delivery: Delivery, name: string): string | undefined {
  for (const [key, value] of Object.entries(delivery.headers ?? {})) if (key.toLowerCase() === name) return value
  return undefined
}

/** Makes a text fit into a header, which is a single line. */
function oneLine(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, DETAIL_CHARACTERS_MAX)
}
