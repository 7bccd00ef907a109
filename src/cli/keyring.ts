/** `borealis keyring`: makes the keys of the service, shows them and exchanges them. */
import { resolve } from 'node:path'
import { Command } from 'commander'
import { systemClock } from '../clock.js'
import type { Config } from '../config/config.js'
import type { KeyringSettings } from '../config/keyring-settings.js'
import { KEY_KINDS, type KeyKind, type Keyring } from '../keyring.js'
import type { Broker } from '../nats/broker.js'
import { checkKeyring, keyringRecordOf, readKeyringRecord, writeKeyringRecord } from '../store/keyring-record.js'
import { explained, type Output, onService, print } from './admin/run.js'
import { CommandError, loadConfig } from './context.js'
import { activateKey, addKey, retireKey } from './keyring/change.js'
import { statusOf } from './keyring/status.js'
import { tellKeyringChanged } from './keyring/tell.js'
import { createKeyring, readKeyring, writeTransportKeys } from './keyring-file.js'

export function keyringCommand(): Command {
  const keyring = new Command('keyring').description('the keys of the service, in the file that keyring.file names')
  const kinds = KEY_KINDS.join(', ')
  keyring
    .command('init')
    .description('make the keyring of a new installation; all further cores get a copy of it')
    .action(
      onFile(({ file }) => {
        const { id } = createKeyring(file, systemClock.now())
        return { file: resolve(file), keyring: id }
      }),
    )
  keyring
    .command('status', { isDefault: true })
    .description('show the keys with their states, and which process has read them; never the keys themselves')
    .action(
      onService(async (_service, { config, broker }) => {
        const { file } = config.keyring
        return statusOf(broker, readKeyring(file), file)
      }),
    )
  keyring
    .command('reload')
    .description('ask every core and transport to read its file again, as SIGHUP does for one')
    .action(
      onService(async (_service, { broker }) => {
        tellKeyringChanged(broker)
        return { asked: true }
      }),
    )
  keyring
    .command('add <kind>')
    .description(`add a key that verifies and does not sign (${kinds})`)
    .action(
      onService(async (service, { args: [kind = ''], ...run }) => {
        const kid = await addKey({ service, ...run }, kindOf(kind))
        return { kind, kid, state: 'added' }
      }),
    )
  keyring
    .command('activate <kind> <kid>')
    .description('sign with this key from now on')
    .option('--force', 'do it although a process has not read the key: it refuses what the key signs')
    .action(
      onService(async (service, { args: [kind = '', kid = ''], options, ...run }) => {
        await activateKey({ service, ...run }, kindOf(kind), kid, options)
        return { kind, kid, state: 'active' }
      }),
    )
  keyring
    .command('retire <kind> <kid>')
    .description('end a key that does not sign any more; a key of registrationIds or secrets goes on to verify')
    .option('--void', 'void what the key has made, at once; asks for --yes')
    .option('--yes', 'do it')
    .option('--force', 'do it although a process may still sign with the key')
    .action(
      onService(async (service, { args: [kind = '', kid = ''], options, ...run }) => {
        const { isRemoved, voided } = await retireKey({ service, ...run }, kindOf(kind), kid, options)
        return { kind, kid, retired: true, removed: isRemoved, ...(voided === null ? {} : { voided }) }
      }),
    )
  keyring
    .command('extract [file]')
    .description('write the part of the keyring that a transport needs, mode 0600 (default: keyring.transportFile)')
    .action(
      onFile(({ file, transportFile, args: [to = transportFile] }) => {
        if (to === '') throw new CommandError('name a file, or set keyring.transportFile', 2)
        const keyring = readKeyring(file)
        writeTransportKeys(to, keyring)
        return { file: resolve(to), keyring: keyring.id }
      }),
    )
  keyring
    .command('adopt')
    .description(
      'take this keyring in the place of the one that the installation has, which ends all work of the other',
    )
    .option('--yes', 'do it')
    .action(
      onService(async (service, { config, broker, options, actor }) => {
        const keyring = readKeyring(config.keyring.file)
        const before = await readKeyringRecord(broker)
        const replaced = before?.record.id ?? null
        if (replaced !== null && replaced !== keyring.id && !options.yes) {
          throw new CommandError(
            `this voids everything that keyring ${replaced} has made: every token, every ticket, every registrationId, ` +
              'and the secrets that it encrypts. Add --yes if it is lost, then start all cores and transports anew',
            2,
          )
        }
        const { id, revision } = keyring.mark
        await service.change(actor, 'keyring.adopt', null, { keyring: id, revision, replaced }, () =>
          writeKeyringRecord(broker, keyringRecordOf(keyring, systemClock.now()), before?.tableRevision ?? 0),
        )
        return { keyring: id, revision, replaced }
      }),
    )
  for (const command of keyring.commands) command.option('--json', 'print JSON')
  return keyring
}

/** The keyring of this installation. Rejects with KeyringError where the file is none, or another one. */
export async function keyringOf(broker: Broker, { keyring: { file } }: Pick<Config, 'keyring'>): Promise<Keyring> {
  const keyring = readKeyring(file)
  await checkKeyring(broker, keyring, file)
  return keyring
}

/** An action that needs the keyring and not the service. */
function onFile(run: (run: KeyringSettings & { args: string[] }) => Output) {
  return async function (this: Command): Promise<void> {
    const { keyring } = loadConfig(this)
    await explained(async () => print(run({ ...keyring, args: this.args }), this))
  }
}

function kindOf(text: string): KeyKind {
  const kind = KEY_KINDS.find((one) => one === text)
  if (!kind) throw new CommandError(`${text} is not a kind of key: ${KEY_KINDS.join(', ')}`, 2)
  return kind
}
