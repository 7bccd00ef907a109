/**
 * Messages published to NATS (`push.send.<project>`, stream INGRESS), as JSON or msgpack by their `Content-Type`. They
 * take the same way as those over HTTP: validate, resolve, accept.
 *
 * A record is acknowledged after its message is stored, or after it stands in DEAD_LETTERS with the reason. Anything else
 * is left for redelivery: nothing is lost. A redelivery makes no second message, since its id comes from the record's place
 * in the stream: directly where it goes to one device now, else by an idempotency key.
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
  /** Longest record that is looked at; the body limit of HTTP. */
  bodyBytesMax: number
  log: Logger
}

/** A fault of ours that comes back this often with the same record is the record's: it goes to DEAD_LETTERS. */
const INTERNAL_ATTEMPTS_MAX = 5
const DURABLE = 'ingress'
const DETAIL_CHARACTERS_MAX = 512
/** The body and `notification` around the data. */
const DEPTH_ABOVE_DATA = 2

interface KnownStream {
  /** A stream that was made anew counts from 1 again: its records are others. */
  incarnation: number
  /**
   * Its last sequence when we came. Up to here, what is delivered as new may have been accepted: a killed nats-server
   * forgets acknowledgements and counts of its last moments. Our connection breaks with it.
   */
  lastBefore: number
}

export class Ingress {
  private readonly deadLetters: Log
  private readonly underWay = new Set<Promise<void>>()
  private consumption: Consumption | null = null
  /** Null: not known since the connection came, or came again. */
  private stream: KnownStream | null = null
  private looking: Promise<KnownStream> | null = null
  private breaks = 0
  private status: Subscription | null = null

  constructor(private readonly options: IngressOptions) {
    this.deadLetters = options.broker.log(DEAD_LETTERS_STREAM)
  }

  /** Rejects with BrokerError where the store is away. */
  async start(): Promise<void> {
    const { broker, settings } = this.options
    const { ackWaitMs, pendingMax } = settings
    this.status = broker.onStatus(() => {
      this.breaks++
      this.stream = null
    })
    try {
      await this.look()
      const stream = broker.log(INGRESS_STREAM)
      this.consumption = await stream.consume({ durable: DURABLE, ackWaitMs, pendingMax }, (delivery) => {
        const done = this.handle(delivery).finally(() => this.underWay.delete(done))
        this.underWay.add(done)
      })
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  /** Resolves once what is under way was stored or given back. */
  async stop(): Promise<void> {
    this.status?.unsubscribe()
    await this.consumption?.stop()
    this.consumption = null
    await Promise.all(this.underWay)
  }

  /** Never rejects: what cannot be done now is given back to the stream. */
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
    await accept({ ...command, ...(await this.identityOf(delivery, send)) })
    if (rejected.length > 0) {
      // There is nobody to answer: the targets that were left out are told of beside what was refused as a whole.
      const codes = [...new Set(rejected.map(({ code }) => code))].join(', ')
      const error = new CodedError(
        rejected[0]?.code ?? 'internal',
        `${rejected.length} targets were left out: ${codes}`,
      )
      await this.deadLetter(projectId, delivery, error, JSON.stringify({ rejected }))
    }
  }

  private async identityOf(
    delivery: Delivery,
    send: SendMessage,
  ): Promise<Pick<AcceptCommand, 'acceptedAtMs' | 'idempotency' | 'place'>> {
    const { sequence, storedAtMs, deliveryCount } = delivery
    const { incarnation, lastBefore } = this.stream ?? (await this.look())
    if (send.type === 'device' && send.notBeforeMs === null) {
      return { place: { incarnation, sequence, storedAtMs, isRepeat: deliveryCount > 1 || sequence <= lastBefore } }
    }
    // A stream that lost its end gives its sequences again: the time belongs to the place.
    const key = `ingress.${incarnation}.${sequence}.${storedAtMs}`
    return { acceptedAtMs: storedAtMs, idempotency: { key, fingerprint: fingerprintOf(send) } }
  }

  /** Once for all who ask meanwhile. Rejects with BrokerError. */
  private look(): Promise<KnownStream> {
    this.looking ??= this.readStream().finally(() => {
      this.looking = null
    })
    return this.looking
  }

  private async readStream(): Promise<KnownStream> {
    const breaks = this.breaks
    const { incarnation, lastSequence } = await this.options.broker.log(INGRESS_STREAM).state()
    const stream = { incarnation, lastBefore: lastSequence }
    // Else the connection broke meanwhile: good for those who wait, and for nobody who comes later.
    if (breaks === this.breaks) this.stream = stream
    return stream
  }

  private async refuse(project: string, delivery: Delivery, error: CodedError): Promise<void> {
    const isTheirs = Errors[error.code].owner === 'caller'
    const isPoison = error.code === 'internal' && delivery.deliveryCount >= INTERNAL_ATTEMPTS_MAX
    if (!isTheirs && !isPoison) {
      delivery.nack(this.options.settings.retryMs)
      return
    }
    try {
      await this.deadLetter(project, delivery, error, delivery.body)
      delivery.ack()
    } catch (failure) {
      this.options.log.warn({ error: failure, sequence: delivery.sequence }, 'a dead letter could not be stored')
      delivery.nack(this.options.settings.retryMs)
    }
  }

  /** The record as it came, with the reason in its headers: `code`, `detail`, and its sequence in INGRESS. */
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

/** JSON where nothing is said. */
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

/** NATS keeps header names as they were written. */
function headerOf(delivery: Delivery, name: string): string | undefined {
  for (const [key, value] of Object.entries(delivery.headers ?? {})) if (key.toLowerCase() === name) return value
  return undefined
}

/** A header is one line. */
function oneLine(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, DETAIL_CHARACTERS_MAX)
}
