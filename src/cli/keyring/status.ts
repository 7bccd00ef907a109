/** `borealis keyring status`: the keys of the file, and which process has read which state of it. */
import { resolve } from 'node:path'
import { type Clock, systemClock } from '../../clock.js'
import { timeOutput } from '../../core/tenants/output.js'
import { KEY_KINDS, type KeyKind, type Keyring, type KeyringMark } from '../../keyring.js'
import type { Broker } from '../../nats/broker.js'
import { type KeyringReader, type ObservedReader, observeReaders } from '../../store/keyring-readers.js'
import { readKeyringRecord } from '../../store/keyring-record.js'
import type { Fields, TextOutput } from '../admin/run.js'

/** A process whose last sign of life looks older than this is watched. */
const QUIET_MS = 10_000

/** The part of the service that needs the keys of a kind. */
export const PARTS: Readonly<Record<KeyKind, readonly KeyringReader['part'][]>> = {
  accessToken: ['core'],
  deviceToken: ['core', 'transport'],
  registration: ['core'],
  ticket: ['transport'],
  secrets: ['core'],
}

/** Running processes that have not read this state of the keyring. Resolves after ten seconds at most. */
export async function behind(
  broker: Broker,
  clock: Clock,
  mark: KeyringMark,
  kind: KeyKind,
): Promise<ObservedReader[]> {
  const lacks = (reader: KeyringReader) => PARTS[kind].includes(reader.part) && !hasRead(reader, mark)
  const readers = await observeReaders(broker, clock, lacks)
  return readers.filter((reader) => reader.isAlive && lacks(reader))
}

export const placeOf = ({ part, name, host, pid }: KeyringReader) =>
  host === '' ? `${part} ${name}` : `${part} ${name} on ${host}, process ${pid}`

const hasRead = ({ keyring }: KeyringReader, { id, revision }: KeyringMark) =>
  keyring !== null && keyring.id === id && keyring.revision >= revision

export async function statusOf(broker: Broker, keyring: Keyring, file: string): Promise<TextOutput> {
  const { mark } = keyring
  const expected = (await readKeyringRecord(broker))?.record ?? null
  const isQuiet = ({ atMs }: KeyringReader) => Math.abs(systemClock.now() - atMs) > QUIET_MS
  const readers = await observeReaders(broker, systemClock, isQuiet)
  const keys = KEY_KINDS.flatMap((kind) => keyring.keys(kind)).map(
    ({ kind, kid, state, createdAtMs, replacedAtMs }) => ({
      ...{ kind, kid, state, signs: state === 'active', verifies: true },
      ...{ createdAt: timeOutput(createdAtMs), replacedAt: replacedAtMs === null ? null : timeOutput(replacedAtMs) },
    }),
  )
  const processes = readers.map((reader) => ({
    ...{ part: reader.part, name: reader.name, host: reader.host, pid: reader.pid },
    ...{ keyring: reader.keyring?.id ?? null, revision: reader.keyring?.revision ?? null },
    ...{ hasRead: hasRead(reader, mark), isAlive: reader.isAlive, seenAt: timeOutput(reader.atMs) },
  }))
  const installation = expected && { keyring: expected.id, revision: expected.revision }
  const head = [
    `keyring ${mark.id}, revision ${mark.revision}, in ${resolve(file)}`,
    expected === null
      ? 'no core has started yet'
      : `the installation has keyring ${expected.id}, revision ${expected.revision}`,
  ]
  const states = keys.map(({ kind, kid, state, createdAt }) => ({
    ...{ kind, key: kid, state, does: usesOf(kind, state === 'active'), made: createdAt },
  }))
  const rows = processes.map(({ part, name, host, pid, revision, hasRead, isAlive, seenAt }) => ({
    ...{ part, process: name, host, pid, revision: revision ?? '?' },
    ...{ state: isAlive ? (hasRead ? 'has read it' : 'HAS NOT READ IT') : 'silent', seen: seenAt },
  }))
  const processTable = rows.length === 0 ? 'no core and no transport runs\n' : table(rows)
  return {
    text: `${head.join('\n')}\n\n${table(states)}\n${processTable}`,
    json: { keyring: mark.id, revision: mark.revision, file: resolve(file), installation, keys, processes },
  }
}

function table(rows: Fields[]): string {
  const names = Object.keys(rows[0] ?? {})
  const lines = [names, ...rows.map((row) => names.map((name) => String(row[name])))]
  const widths = names.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)))
  return lines
    .map(
      (line) =>
        `${line
          .map((cell, at) => cell.padEnd(widths[at] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('')
}

/** A key of the kind `secrets` signs nothing. */
function usesOf(kind: string, isActive: boolean): string {
  const [make, check] = kind === 'secrets' ? ['encrypts', 'decrypts'] : ['signs', 'verifies']
  return isActive ? `${make}, ${check}` : check
}
