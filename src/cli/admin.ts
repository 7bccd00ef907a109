/** `borealis admin`: projects, applications, fleets, credentials, tokens, revocations and keys, over NATS. */
import { readFileSync, writeFileSync } from 'node:fs'
import { Command, Option } from 'commander'
import { CodedError } from '../../protocol/errors.js'
import { systemClock } from '../clock.js'
import type { Config } from '../config/config.js'
import { publicUrlOf } from '../core/api/public-url.js'
import { decodeRegistrationId } from '../core/domain/registration-id.js'
import { ROLES } from '../core/tenants/auth/roles.js'
import type { PrivateServiceKey } from '../core/tenants/auth/service-keys.js'
import { Scope } from '../core/tenants/auth/tokens.js'
import type { NewCredential } from '../core/tenants/fields.js'
import {
  applicationOutput,
  auditOutput,
  credentialOutput,
  enrolmentKeyOutput,
  fleetOutput,
  projectOutput,
  timeOutput,
} from '../core/tenants/output.js'
import { mintToken, revokeRegistration } from '../core/tenants/projects.js'
import { settingsFileOf, settingsYaml } from '../core/tenants/settings-file.js'
import { KEY_KINDS, type KeyKind, Keyring } from '../keyring.js'
import type { ProjectRecord } from '../store/tenants.js'
import { eventCommands, webhookCommands } from './admin/events.js'
import { type Output, onKeyring, onService } from './admin/run.js'
import { CommandError } from './context.js'

export function adminCommand(): Command {
  const admin = new Command('admin').description('manage projects, applications, fleets, tokens, revocations and keys')
  projectCommands(admin.command('project').description('tenants: each owns applications and a service account'))
  applicationCommands(admin.command('application').description('what device apps register as'))
  fleetCommands(admin.command('fleet').description('groups of devices that enrol with one key'))
  credentialCommands(admin.command('credential').description('who may use the admin API, and as what'))
  eventCommands(admin.command('events').description('what became of messages, told to app servers'))
  webhookCommands(admin.command('webhook').description('where a project has its events posted to'))
  auditCommands(admin.command('audit').description('who changed what'))
  tokenCommands(admin.command('token').description('access tokens of app servers'))
  revocationCommands(admin)
  keyringCommands(admin.command('keyring').description('the keys of the service, in the file of keyring.file'))
  for (const command of leaves(admin)) command.option('--json', 'print JSON')
  return admin
}

/** The commands that do something. */
function leaves(command: Command): Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(leaves)
}

function projectCommands(project: Command): void {
  project
    .command('create')
    .description('make a project; prints the settings file of its app server, with a private key that is not kept')
    .option('--id <id>', '1 to 64 of A-Z a-z 0-9 _ -; random where absent')
    .option('--name <name>', 'for people')
    .addOption(algorithm())
    .action(
      onService(async (service, { config, options, actor }) => {
        const { id, name, alg } = options
        const made = await service.createProject(actor, {
          ...(id ? { id } : {}),
          ...(name ? { name } : {}),
          ...(alg ? { alg } : {}),
        })
        return settingsOutput(config, made)
      }),
    )
  project
    .command('show <project>')
    .description('what there is to know of a project')
    .action(onService(async (service, { args: [id = ''], actor }) => projectOutput(await service.project(actor, id))))
  project
    .command('list')
    .description('every project')
    .action(onService(async (service, { actor }) => (await service.projects(actor)).map(projectOutput)))
  for (const [verb, isActive, description] of [
    ['suspend', false, 'refuse everything but a look at the project until it is resumed'],
    ['resume', true, 'end a suspension'],
  ] as const) {
    project
      .command(`${verb} <project>`)
      .description(description)
      .action(
        onService(async (service, { args: [id = ''], actor }) =>
          projectOutput(await service.setActive(actor, id, isActive)),
        ),
      )
  }
  project
    .command('limit <project>')
    .description('how much a project may send')
    .requiredOption('--messages-per-second <number>', 'targets accepted a second; `default`: the service decides')
    .action(
      onService(async (service, { args: [id = ''], options, actor }) => {
        const text = options.messagesPerSecond
        const messagesPerSecond = text === 'default' ? null : wholeNumber(text)
        return projectOutput(await service.setLimits(actor, id, { messagesPerSecond }))
      }),
    )
  project
    .command('add-key <project>')
    .description('another key beside those there are; prints the settings file with its private key, which is not kept')
    .addOption(algorithm())
    .action(
      onService(async (service, { config, args: [id = ''], options, actor }) =>
        settingsOutput(config, await service.addKey(actor, id, options.alg)),
      ),
    )
  project
    .command('add-public-key <project> <file>')
    .description('let the app server sign with a key pair of its own: the file has the public part, as PEM')
    .action(
      onService(async (service, { args: [id = '', file = ''], actor }) => {
        const { project: changed, key } = await service.addPublicKey(actor, id, textOf(file))
        return { ...projectOutput(changed), keyId: key.kid, alg: key.alg }
      }),
    )
  project
    .command('remove-key <project> <keyId>')
    .description('what was signed or asked for with this key is refused from now on')
    .action(
      onService(async (service, { args: [id = '', keyId = ''], actor }) =>
        projectOutput(await service.removeKey(actor, id, keyId)),
      ),
    )
}

/** Throws CommandError where it cannot be read. */
function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    throw new CommandError(`${file} cannot be read: ${(cause as NodeJS.ErrnoException).code}`, 2, { cause })
  }
}

/** As a text: the settings file, so that it can be sent to a file; as JSON: with what else there is. */
function settingsOutput(
  config: Config,
  { project, serviceKey }: { project: ProjectRecord; serviceKey: PrivateServiceKey },
): Output {
  const { keyId, alg, privateKey } = serviceKey
  const { clientId } = project.serviceAccount
  const publicUrl = publicUrlOf(config.http)
  const settings = settingsFileOf({ project: project.id, clientId, keyId, privateKey, publicUrl, auth: config.auth })
  return { text: settingsYaml(settings), json: { ...projectOutput(project), keyId, alg, privateKey, settings } }
}

function applicationCommands(application: Command): void {
  application
    .command('create')
    .description('make an application; prints its applicationId')
    .requiredOption('--project <project>', 'whose it is')
    .option('--name <name>', 'for people')
    .action(
      onService(async (service, { options: { project, name }, actor }) =>
        applicationOutput(await service.createApplication(actor, project, name === undefined ? {} : { name })),
      ),
    )
  application
    .command('list')
    .description('applications of a project, or of all')
    .option('--project <project>', 'only those of this one')
    .action(
      onService(async (service, { options, actor }) => {
        const all = await service.applications(actor)
        return all.filter(({ project }) => !options.project || project === options.project).map(applicationOutput)
      }),
    )
}

function fleetCommands(fleet: Command): void {
  fleet
    .command('create')
    .description('make a fleet; prints its enrolment key, which is not kept')
    .option('--name <name>', 'for people')
    .action(
      onService(async (service, { options: { name }, actor }) => {
        const { fleet, enrolmentKey } = await service.createFleet(actor, name === undefined ? {} : { name })
        return { ...fleetOutput(fleet), enrolmentKey }
      }),
    )
  fleet
    .command('list')
    .description('every fleet')
    .action(onService(async (service, { actor }) => (await service.fleets(actor)).map(fleetOutput)))
  fleet
    .command('cut-off <fleetId>')
    .description('end all identities of a fleet: tokens issued until now are void, and the devices have to enrol anew')
    .action(
      onService(async (service, { args: [fleetId = ''], actor }) => ({
        fleetId,
        tokensFrom: timeOutput(await service.cutOffFleet(actor, fleetId)),
      })),
    )
  const keys = fleet.command('keys').description('the enrolment keys of a fleet')
  keys
    .command('list <fleetId>')
    .description('the keys with their uses, never the keys themselves')
    .action(
      onService(async (service, { args: [fleetId = ''], actor }) =>
        (await service.enrolmentKeys(actor, fleetId)).map(enrolmentKeyOutput),
      ),
    )
  keys
    .command('add <fleetId>')
    .description('another enrolment key; prints it, and it is not kept')
    .option('--uses <number>', 'most enrolments; absent: any number')
    .option('--until <time>', 'the end of the key, a date or a time in UTC; absent: for ever')
    .action(
      onService(async (service, { args: [fleetId = ''], options: { uses, until }, actor }) => {
        const { key, enrolmentKey } = await service.addEnrolmentKey(actor, fleetId, {
          ...(uses === undefined ? {} : { uses: wholeNumber(uses) }),
          ...(until === undefined ? {} : { until }),
        })
        return { ...enrolmentKeyOutput(key), enrolmentKey }
      }),
    )
  keys
    .command('retire <fleetId> <keyId>')
    .description('refuse the key from now on; devices that enrolled with it stay')
    .action(
      onService(async (service, { args: [fleetId = '', keyId = ''], actor }) =>
        enrolmentKeyOutput(await service.retireEnrolmentKey(actor, fleetId, keyId)),
      ),
    )
}

function credentialCommands(credential: Command): void {
  credential
    .command('create')
    .description('let somebody use the admin API; prints the secret, which is not kept')
    .requiredOption('--name <name>', 'whose it is')
    .requiredOption('--role <role>', ROLES.join(', '))
    .option('--project <projects>', 'only for these, separated by commas; absent: for the whole service')
    .action(
      onService(async (service, { options: { name = '', role, project }, actor }) => {
        const projects = (project as string | undefined)?.split(',')
        // The role is text until createCredential has checked it.
        const wanted = { name, role, ...(projects && { projects }) } as NewCredential
        const { credential, secret } = await service.createCredential(actor, wanted)
        return { ...credentialOutput(credential), secret }
      }),
    )
  credential
    .command('list')
    .description('every credential, without its secret')
    .action(onService(async (service, { actor }) => (await service.allCredentials(actor)).map(credentialOutput)))
  credential
    .command('remove <credentialId>')
    .description('refuse this credential from now on')
    .action(
      onService(async (service, { args: [id = ''], actor }) => {
        await service.removeCredential(actor, id)
        return { credentialId: id, removed: true }
      }),
    )
}

function auditCommands(audit: Command): void {
  audit
    .command('show', { isDefault: true })
    .description('who changed what, newest first')
    .option('--project <project>', 'only what is about this one')
    .option('--limit <number>', 'most entries', '50')
    .option('--before <sequence>', 'the next page, as the page before named it')
    .action(
      onService(async (service, { options, actor }) => {
        const project = options.project as string | undefined
        const page = await service.auditPage(actor, {
          limit: wholeNumber(options.limit),
          ...(project === undefined ? {} : { project }),
          ...(options.before === undefined ? {} : { before: wholeNumber(options.before) }),
        })
        const entries = page.entries.map(auditOutput)
        const line = (entry: Record<string, unknown>) => `${Object.values(entry).map(shownInLine).join('  ')}\n`
        const more = page.next === null ? '' : `more: --before ${page.next}\n`
        return { text: `${entries.map(line).join('')}${more}`, json: { entries, next: page.next } }
      }),
    )
}

const shownInLine = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value))

function wholeNumber(text: string): number {
  if (!/^[1-9][0-9]{0,15}$/.test(text)) throw new CommandError(`${text} is no whole number above 0`, 2)
  return Number(text)
}

function tokenCommands(token: Command): void {
  token
    .command('mint')
    .description('sign an access token for a project')
    .requiredOption('--project <project>', 'whose messages it may send')
    .option('--scope <scopes>', 'separated by spaces', Object.values(Scope).join(' '))
    .action(
      onService(async (service, { config, options: { project, scope }, actor }) => {
        const scopes = scope.split(' ').filter(Boolean)
        const keyring = Keyring.open(config.keyring.file, systemClock.now())
        const { token, expiresAtMs } = await service.change(actor, 'token.mint', project, { scopes }, () =>
          mintToken(service.tenants, keyring, config.auth, project, scopes),
        )
        return { accessToken: token, tokenType: 'Bearer', expiresAt: timeOutput(expiresAtMs) }
      }),
    )
}

function revocationCommands(admin: Command): void {
  const devices = admin.command('device').description('devices')
  devices
    .command('reset <device>')
    .description('forget which connection numbers a device has used, end its session, and let it connect again')
    .action(
      onService(async (service, { args: [device = ''], actor }) => {
        await service.resetDevice(actor, device)
        return { device, reset: true }
      }),
    )
  devices
    .command('revoke <device>')
    .description('cut a device off; it may not come back, and senders are told')
    .action(
      onService(async (service, { args: [device = ''], actor }) => {
        await service.revokeDevice(actor, device)
        return { device, revoked: true }
      }),
    )
  admin
    .command('registration')
    .description('registrations')
    .command('revoke <registrationId>')
    .description('end a registration; senders are told, and the app gets another when it registers again')
    .action(
      onService(async (service, { config, args: [registrationId = ''], actor }) => {
        const keys = Keyring.open(config.keyring.file, systemClock.now()).macKeys('registration')
        const address = decodeRegistrationId(new Map(keys.map((key) => [key.kid, key])), registrationId)
        if (!address) throw new CodedError('unknown_registration')
        const { project, device, registration } = address
        await service.change(actor, 'registration.revoke', project, { device, registration }, () =>
          revokeRegistration(service.tenants, device, registration),
        )
        return { ...address, revoked: true }
      }),
    )
}

function keyringCommands(keyring: Command): void {
  const kinds = KEY_KINDS.join(', ')
  keyring
    .command('show')
    .description('ids and ages of the keys, never the keys')
    .action(
      onKeyring(({ keyring }) =>
        KEY_KINDS.flatMap((kind) =>
          keyring.kids(kind).map(({ kid, createdAtMs }) => ({ kind, kid, createdAt: timeOutput(createdAtMs) })),
        ),
      ),
    )
  keyring
    .command('rotate <kind>')
    .description(`add a key that signs from now on (${kinds}); restart cores and transports afterwards`)
    .action(
      onKeyring(({ keyring, file, args: [kind = ''] }) => {
        const kid = keyring.rotate(kindOf(kind), systemClock.now())
        keyring.save(file)
        return { kind, kid }
      }),
    )
  keyring
    .command('retire <kind> <kid>')
    .description('remove a key that no longer signs: what it signed is refused')
    .action(
      onKeyring(({ keyring, file, args: [kind = '', kid = ''] }) => {
        keyring.retire(kindOf(kind), kid)
        keyring.save(file)
        return { kind, kid, retired: true }
      }),
    )
  keyring
    .command('extract <file>')
    .description('write what a transport needs of the keyring, mode 0600 (keyring.transportFile)')
    .action(
      onKeyring(({ keyring, args: [file = ''] }) => {
        writeFileSync(file, `${JSON.stringify(keyring.transportKeys(), null, 2)}\n`, { mode: 0o600 })
        return { file }
      }),
    )
}

function algorithm(): Option {
  return new Option('--alg <algorithm>', 'with which the service account signs').choices(['RS256', 'ES256'])
}

function kindOf(text: string): KeyKind {
  const kind = KEY_KINDS.find((one) => one === text)
  if (!kind) throw new CommandError(`${text} is no kind of key: ${KEY_KINDS.join(', ')}`, 2)
  return kind
}
