/** `borealis admin`: manages projects, applications, fleets, credentials, tokens and revocations, through NATS. */
import { readFileSync } from 'node:fs'
import { Command, Option } from 'commander'
import { CodedError } from '../../protocol/errors.js'
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
import type { ProjectRecord } from '../store/tenants.js'
import { eventCommands, webhookCommands } from './admin/events.js'
import { type Output, onService } from './admin/run.js'
import { CommandError } from './context.js'
import { keyringOf } from './keyring.js'

export function adminCommand(): Command {
  const admin = new Command('admin').description('manage projects, applications, fleets, tokens and revocations')
  projectCommands(admin.command('project').description('tenants: each owns applications and a service account'))
  applicationCommands(admin.command('application').description('what device apps register as'))
  fleetCommands(admin.command('fleet').description('groups of devices that enrol with the same key'))
  credentialCommands(admin.command('credential').description('access to the admin API, and its role'))
  eventCommands(admin.command('events').description('events for app servers about the outcome of messages'))
  webhookCommands(admin.command('webhook').description('the address to which the events of a project are posted'))
  const audit = admin.command('audit').description('the log of changes')
  auditCommands(audit)
  auditVerifyCommand(audit)
  tokenCommands(admin.command('token').description('access tokens of app servers'))
  revocationCommands(admin)
  refuseOldKeyringCommands(admin)
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
    .description('create a project and the settings file of its app server, with a private key that is not stored')
    .option('--id <id>', '1 to 64 of A-Z a-z 0-9 _ -; random by default')
    .option('--name <name>', 'name for people')
    .addOption(algorithm())
    .addOption(settingsFile())
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
    .description('show a project')
    .action(onService(async (service, { args: [id = ''], actor }) => projectOutput(await service.project(actor, id))))
  project
    .command('list')
    .description('show every project')
    .action(onService(async (service, { actor }) => (await service.projects(actor)).map(projectOutput)))
  for (const [verb, isActive, description] of [
    ['suspend', false, 'refuse every use of the project, except showing it, until it is resumed'],
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
    .description('limit how much a project may send')
    .requiredOption('--messages-per-second <number>', 'accepted targets per second; `default`: that of the service')
    .action(
      onService(async (service, { args: [id = ''], options, actor }) => {
        const text = options.messagesPerSecond
        const messagesPerSecond = text === 'default' ? null : wholeNumber(text)
        return projectOutput(await service.setLimits(actor, id, { messagesPerSecond }))
      }),
    )
  project
    .command('add-key <project>')
    .description('add a key, and create the settings file with its private key, which is not stored')
    .addOption(algorithm())
    .addOption(settingsFile())
    .action(
      onService(async (service, { config, args: [id = ''], options, actor }) =>
        settingsOutput(config, await service.addKey(actor, id, options.alg)),
      ),
    )
  project
    .command('add-public-key <project> <file>')
    .description('add a key pair of the app server; the file holds the public key as PEM')
    .action(
      onService(async (service, { args: [id = '', file = ''], actor }) => {
        const { project: changed, key } = await service.addPublicKey(actor, id, textOf(file))
        return { ...projectOutput(changed), keyId: key.kid, alg: key.alg }
      }),
    )
  project
    .command('remove-key <project> <keyId>')
    .description('remove a key; everything that it signed, and tokens that it obtained, are refused from now on')
    .action(
      onService(async (service, { args: [id = '', keyId = ''], actor }) =>
        projectOutput(await service.removeKey(actor, id, keyId)),
      ),
    )
}

/** Throws CommandError if the file cannot be read. */
function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    throw new CommandError(`${file} cannot be read: ${(cause as NodeJS.ErrnoException).code}`, 2, { cause })
  }
}

/** As text: the settings file alone. As JSON: the project and the key as well. */
function settingsOutput(
  config: Config,
  { project, serviceKey }: { project: ProjectRecord; serviceKey: PrivateServiceKey },
): Output {
  const { keyId, alg, privateKey } = serviceKey
  const { clientId } = project.serviceAccount
  const publicUrl = publicUrlOf(config.http)
  const settings = settingsFileOf({ project: project.id, clientId, keyId, privateKey, publicUrl, auth: config.auth })
  const withoutSecrets = { ...projectOutput(project), keyId, alg }
  return { text: settingsYaml(settings), json: { ...withoutSecrets, privateKey, settings }, withoutSecrets }
}

function applicationCommands(application: Command): void {
  application
    .command('create')
    .description('create an application and print its applicationId')
    .requiredOption('--project <project>', 'project that owns it')
    .option('--name <name>', 'name for people')
    .action(
      onService(async (service, { options: { project, name }, actor }) =>
        applicationOutput(await service.createApplication(actor, project, name === undefined ? {} : { name })),
      ),
    )
  application
    .command('user-token <applicationId> <rule>')
    .description('say whether an application registers with a user token only (rule: required or optional)')
    .requiredOption('--project <project>', 'project that owns it')
    .action(
      onService(async (service, { args: [id = '', rule = ''], options: { project }, actor }) => {
        if (rule !== 'required' && rule !== 'optional') {
          throw new CommandError(`${rule} is neither required nor optional`, 2)
        }
        return applicationOutput(await service.setNeedsUser(actor, project, id, rule === 'required'))
      }),
    )
  application
    .command('list')
    .description('show the applications of a project, or of all projects')
    .option('--project <project>', 'only the applications of this project')
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
    .description('create a fleet and print its enrolment key, which is not stored')
    .option('--name <name>', 'name for people')
    .action(
      onService(async (service, { options: { name }, actor }) => {
        const { fleet, enrolmentKey } = await service.createFleet(actor, name === undefined ? {} : { name })
        return { ...fleetOutput(fleet), enrolmentKey }
      }),
    )
  fleet
    .command('list')
    .description('show every fleet')
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
  fleet
    .command('projects <fleetId> <projects...>')
    .description("say for which projects devices of a fleet may register; '*' for all")
    .action(
      onService(async (service, { args: [fleetId = '', ...projects], actor }) => {
        const all = projects.length === 1 && projects[0] === '*'
        return fleetOutput(await service.setFleetProjects(actor, fleetId, all ? null : projects))
      }),
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
    .description('give access to the admin API; prints the secret, which is not stored')
    .requiredOption('--name <name>', 'name of its owner')
    .requiredOption('--role <role>', ROLES.join(', '))
    .option('--project <projects>', 'only these projects, separated by commas; by default, the whole service')
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
    .description('show every credential, without its secret')
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
    .description('show the log of changes, newest first')
    .option('--project <project>', 'only entries about this project')
    .option('--limit <number>', 'most entries', '50')
    .option('--before <sequence>', 'show the next page; the previous page prints this number')
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

function auditVerifyCommand(audit: Command): void {
  audit
    .command('verify')
    .description('read the whole log and find entries that were changed or taken out')
    .action(
      onService(async (service, { actor }) => {
        const { entries, breaks } = await service.verifyAudit(actor)
        if (breaks.length > 0) process.exitCode = 1
        const places = breaks.map(({ subject, sequence }) => {
          return `${subject}: entry ${sequence} does not follow the entry before it\n`
        })
        return { text: `${places.join('')}${entries} entries, ${breaks.length} breaks\n`, json: { entries, breaks } }
      }),
    )
}

const shownInLine = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value))

function wholeNumber(text: string): number {
  if (!/^[1-9][0-9]{0,15}$/.test(text)) throw new CommandError(`${text} is not a whole number above 0`, 2)
  return Number(text)
}

function tokenCommands(token: Command): void {
  token
    .command('mint')
    .description('sign an access token for a project')
    .requiredOption('--project <project>', 'project that the token may send for')
    .option('--scope <scopes>', 'scopes, separated by spaces', Object.values(Scope).join(' '))
    .action(
      onService(async (service, { config, broker, options: { project, scope }, actor }) => {
        const scopes = scope.split(' ').filter(Boolean)
        const keyring = await keyringOf(broker, config)
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
    .description('cut a device off for good; senders learn that its registrations have ended')
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
    .description('end a registration; senders learn of it, and the app gets another when it registers again')
    .action(
      onService(async (service, { config, broker, args: [registrationId = ''], actor }) => {
        const { registrationKeys } = await keyringOf(broker, config)
        const address = decodeRegistrationId(registrationKeys, registrationId)
        if (!address) throw new CodedError('unknown_registration')
        const { project, device, registration } = address
        await service.change(actor, 'registration.revoke', project, { device, registration }, () =>
          revokeRegistration(service.tenants, device, registration),
        )
        return { ...address, revoked: true }
      }),
    )
}

/** `admin keyring` of release 0.1. */
function refuseOldKeyringCommands(admin: Command): void {
  admin
    .command('keyring', { hidden: true })
    .argument('[words...]')
    .allowUnknownOption()
    .action(() => {
      throw new CommandError(
        '`borealis admin keyring` is `borealis keyring` now: `show` is `status`; `rotate KIND` is `add KIND`, and ' +
          '`activate KIND KEY` when all processes have read the key; `retire` and `extract` are as before',
        2,
      )
    })
}

/** A shell redirection would create the file with mode 0644. */
function settingsFile(): Option {
  return new Option('--out <file>', 'write the settings file to FILE (mode 0600) and not to standard output')
}

function algorithm(): Option {
  return new Option('--alg <algorithm>', 'algorithm of the key').choices(['RS256', 'ES256'])
}
