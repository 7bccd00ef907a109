/** Changes of the keyring: `borealis keyring add`, `activate` and `retire`. Each stands in the audit log. */

import { PARTITIONS } from '../../../protocol/message-id.js'
import { Bucket } from '../../../protocol/subjects.js'
import { type Clock, systemClock } from '../../clock.js'
import type { Config } from '../../config/config.js'
import type { Administration } from '../../core/tenants/administration.js'
import type { Action, Actor } from '../../core/tenants/auth/roles.js'
import { SKEW_SECONDS } from '../../core/tenants/auth/tokens.js'
import { timeOutput } from '../../core/tenants/output.js'
import { type KeyKind, type Keyring, KeyringError, type KeyView } from '../../keyring.js'
import { type Broker, isConflict } from '../../nats/broker.js'
import { decodeDeviceRecord } from '../../store/devices.js'
import { openFeeds } from '../../store/feeds.js'
import {
  keyringRecordOf,
  readKeyringRecord,
  requireSameKeyring,
  writeKeyringRecord,
} from '../../store/keyring-record.js'
import { sealedWith } from '../../store/sealed-secrets.js'
import { CommandError } from '../context.js'
import { prepareKeyring, readKeyring } from '../keyring-file.js'
import { behind, placeOf } from './status.js'
import { tellKeyringChanged } from './tell.js'

export interface ChangeContext {
  service: Administration
  broker: Broker
  config: Pick<Config, 'keyring' | 'auth' | 'transport'>
  actor: Actor
  clock?: Clock
}

/** Adds a key that verifies and does not sign. Resolves with its kid. */
export async function addKey(context: ChangeContext, kind: KeyKind): Promise<string> {
  const { clock = systemClock } = context
  const { present, next } = await begin(context)
  const kid = next.add(kind, clock.now())
  await commit(context, present, next, 'keyring.add', { kind, key: kid })
  return kid
}

/** Rejects with KeyringError `keyring_unread` if a process that needs the key has not read it, unless it is forced. */
export async function activateKey(
  context: ChangeContext,
  kind: KeyKind,
  kid: string,
  { force = false }: { force?: boolean },
): Promise<void> {
  const { clock = systemClock } = context
  const { present, next } = await begin(context)
  next.activate(kind, kid, clock.now())
  if (!force) await requireRead(context, present.keyring, kind, 'it would refuse what the new key signs')
  await commit(context, present, next, 'keyring.activate', { kind, key: kid, ...(force && { force }) })
}

export interface Retired {
  /** False: the key goes on to verify. */
  isRemoved: boolean
  /** Most registrations, or the number of stored secrets, that are void; null if the kind has neither. */
  voided: number | null
}

export interface RetireOptions {
  force?: boolean
  /** Ends what the key signed, although it may be in use. */
  void?: boolean
  /** Without it, `void` rejects with a CommandError that says what would be void. */
  yes?: boolean
}

export async function retireKey(
  context: ChangeContext,
  kind: KeyKind,
  kid: string,
  options: RetireOptions,
): Promise<Retired> {
  const { clock = systemClock } = context
  const { present, next } = await begin(context)
  const key = present.keyring.keys(kind).find((one) => one.kid === kid)
  if (options.void) next.discard(kind, kid)
  else next.retire(kind, kid)
  // It has signed nothing.
  const isNew = key?.state === 'added'
  if (!isNew && !options.force) await requireRead(context, present.keyring, kind, 'it may still sign with the old key')
  const used = key && !isNew ? await usesOf(context, key, clock.now()) : NO_USES
  if (used.why !== null && !options.void)
    throw new KeyringError('key_in_use', `${used.why}. \`--void\` ends it at once`)
  if (options.void && !options.yes) {
    throw new CommandError(`${used.void ?? `nothing that ${kind} key ${kid} made is in use`}. Add --yes to do it`, 2)
  }
  const details = { kind, key: kid, ...(options.void && { void: true, voided: used.voided }) }
  await commit(context, present, next, 'keyring.retire', details)
  return { isRemoved: !next.has(kind, kid), voided: options.void ? used.voided : null }
}

interface Present {
  keyring: Keyring
  file: string
  /** Of the record in the store; 0: there is none. */
  tableRevision: number
}

/** Rejects with KeyringError if the file is not the newest state of the keyring of the installation. */
async function begin({ broker, config }: ChangeContext): Promise<{ present: Present; next: Keyring }> {
  const { file } = config.keyring
  const keyring = readKeyring(file)
  const found = await readKeyringRecord(broker)
  if (found) {
    requireSameKeyring(found.record, keyring.mark, file)
    if (keyring.mark.revision < found.record.revision) {
      throw new KeyringError(
        'keyring_outdated',
        `${file} has revision ${keyring.mark.revision} of the keyring, and revision ${found.record.revision} is the ` +
          'latest: copy the file of the machine of the latest change there. If that one is lost, `borealis keyring adopt`',
      )
    }
  }
  return { present: { keyring, file, tableRevision: found?.tableRevision ?? 0 }, next: keyring.copy() }
}

/**
 * The audit log, the file beside the present one, the record in the store, and then the file: a full disk and a change on
 * another machine are noticed before anything has changed.
 */
async function commit(
  { service, broker, actor, clock = systemClock }: ChangeContext,
  { file, tableRevision }: Present,
  next: Keyring,
  action: Action,
  details: Record<string, unknown>,
): Promise<void> {
  await service.change(
    actor,
    action,
    null,
    { ...details, keyring: next.id, revision: next.mark.revision },
    async () => {
      const prepared = prepareKeyring(file, next)
      try {
        await writeKeyringRecord(broker, keyringRecordOf(next, clock.now()), tableRevision)
        prepared.put()
      } catch (error) {
        if (!isConflict(error)) throw error
        throw new KeyringError(
          'keyring_outdated',
          'another change of the keyring was faster: copy its file, and try again',
        )
      } finally {
        prepared.discard()
      }
    },
  )
  tellKeyringChanged(broker)
}

async function requireRead(
  { broker, clock = systemClock }: ChangeContext,
  { mark }: Keyring,
  kind: KeyKind,
  why: string,
): Promise<void> {
  const late = await behind(broker, clock, mark, kind)
  if (late.length === 0) return
  const list = late.map((reader) => `${placeOf(reader)} has revision ${reader.keyring?.revision ?? 'unknown'}`)
  throw new KeyringError(
    'keyring_unread',
    `not every process has read revision ${mark.revision} of the keyring (${list.join('; ')}), so ${why}. Bring the file ` +
      'there, run `borealis keyring reload`, and try again; or add --force',
  )
}

interface Uses {
  /** Why the key is still needed; null: it is not, or it goes on to verify. */
  why: string | null
  /** What would be void without it; null: nothing. */
  void: string | null
  voided: number | null
}

const NO_USES: Uses = { why: null, void: null, voided: null }
const DAY_MS = 86_400_000

/** Rejects with BrokerError. */
async function usesOf(context: ChangeContext, key: KeyView, nowMs: number): Promise<Uses> {
  const { kind, kid } = key
  if (kind === 'registration') {
    const voided = await registrationsBefore(context.broker, key.replacedAtMs ?? nowMs)
    return {
      why: null,
      void: `this voids the registrationIds of at most ${voided} registrations, and app servers that send to them get unknown_registration`,
      voided,
    }
  }
  if (kind === 'secrets') {
    const voided = await secretsWith(context.broker, kid)
    if (voided === 0) return { ...NO_USES, voided }
    const projects = `the webhook secrets of ${voided} projects are encrypted with it`
    return {
      why: `${projects}; a core encrypts them anew within moments of reading the keyring`,
      void: `${projects}, and nobody can read them without it`,
      voided,
    }
  }
  const untilMs = (key.replacedAtMs ?? nowMs) + lifetimeMs(context.config, kind)
  if (untilMs <= nowMs) return NO_USES
  const what = `what ${kind} key ${kid} signed is valid until ${timeOutput(untilMs)} at the latest`
  return { why: what, void: `${what}, and is refused without it`, voided: null }
}

/** With the settings of the machine of the command. */
function lifetimeMs(
  { auth, transport }: ChangeContext['config'],
  kind: 'accessToken' | 'deviceToken' | 'ticket',
): number {
  switch (kind) {
    case 'accessToken':
      return (auth.accessTokenSeconds + SKEW_SECONDS) * 1_000
    case 'deviceToken':
      return (auth.deviceTokenDays + auth.deviceTokenGraceDays) * DAY_MS
    case 'ticket':
      return transport.ticketSeconds * 1_000
  }
}

/** Later registrations have ids of another key. Clocks of cores may differ by a minute. */
async function registrationsBefore(broker: Broker, beforeMs: number): Promise<number> {
  const table = broker.table(Bucket.DEVICES)
  let count = 0
  // One partition after the other, since a fleet has too many devices for one answer.
  for (let partition = 0; partition < PARTITIONS; partition++) {
    for (const { value, deleted } of await table.entries(`${partition}.*`)) {
      if (deleted) continue
      const { registrations } = decodeDeviceRecord(value)
      count += registrations.filter(({ createdAtMs }) => createdAtMs <= beforeMs + SKEW_SECONDS * 1_000).length
    }
  }
  return count
}

/** The number of projects with a secret that this key encrypted. */
async function secretsWith(broker: Broker, kid: string): Promise<number> {
  const feeds = await openFeeds(broker).all()
  return feeds.filter(({ webhook }) => webhook?.secrets.some(({ secret }) => sealedWith(secret) === kid)).length
}
