/** `borealis admin`: projects, applications, fleets, tokens, revocations and keys. Talks to the tables over NATS. */
import { writeFileSync } from 'node:fs'
import { Command, Option } from 'commander'
import { CodedError } from '../../protocol/errors.js'
import { systemClock } from '../clock.js'
import type { Config } from '../config.js'
import { decodeRegistrationId } from '../core/registration-id.js'
import {
  addServiceKey,
  createApplication,
  createFleet,
  createProject,
  getProject,
  mintToken,
  openTenants,
  removeServiceKey,
  revokeDevice,
  revokeRegistration,
  setProjectActive,
  type Tenants,
} from '../core/tenants/admin.js'
import type { PrivateServiceKey } from '../core/tenants/service-keys.js'
import { Scope } from '../core/tenants/tokens.js'
import { FabricError } from '../fabric/fabric.js'
import { connect } from '../fabric/nats.js'
import { KEY_KINDS, type KeyKind, Keyring, KeyringError } from '../keyring.js'
import type { ApplicationRecord, FleetRecord, ProjectRecord } from '../store/tenants.js'
import { CommandError, loadConfig } from './context.js'

/** What a command prints: one object, or a list of them. */
type Output = Record<string, unknown> | Record<string, unknown>[]

export function adminCommand(): Command {
  const admin = new Command('admin').description('manage projects, applications, fleets, tokens, revocations and keys')
  projectCommands(admin.command('project').description('tenants: each owns applications and a service account'))
  applicationCommands(admin.command('application').description('what device apps register as'))
  fleetCommands(admin.command('fleet').description('groups of devices that enrol with one key'))
  tokenCommands(admin.command('token').description('access tokens of app servers'))
  revocationCommands(admin)
  keyringCommands(admin.command('keyring').description('the keys of the service, in the file of keyring.file'))
  for (const group of admin.commands) for (const command of group.commands) command.option('--json', 'print JSON')
  return admin
}

function projectCommands(project: Command): void {
  project
    .command('create')
    .description('make a project and its service account; prints the private key, which is not kept')
    .option('--id <id>', '1 to 64 of A-Z a-z 0-9 _ -; random where absent')
    .option('--name <name>', 'for people')
    .addOption(algorithm())
    .action(
      onTables(async (tenants, { options }) => {
        const { project, serviceKey } = await createProject(tenants, options)
        return { ...projectOutput(project), ...keyOutput(serviceKey) }
      }),
    )
  project
    .command('show <project>')
    .description('what there is to know of a project')
    .action(onTables(async (tenants, { args: [id = ''] }) => projectOutput(await getProject(tenants, id))))
  project
    .command('list')
    .description('every project')
    .action(onTables(async (tenants) => (await tenants.projects.all()).map(projectOutput)))
  project
    .command('suspend <project>')
    .description('refuse messages and registrations until it is resumed')
    .action(onTables(async (tenants, { args: [id = ''] }) => projectOutput(await setProjectActive(tenants, id, false))))
  project
    .command('resume <project>')
    .description('end a suspension')
    .action(onTables(async (tenants, { args: [id = ''] }) => projectOutput(await setProjectActive(tenants, id, true))))
  project
    .command('add-key <project>')
    .description('another key for the service account, beside those there are; prints the private key')
    .addOption(algorithm())
    .action(
      onTables(async (tenants, { args: [id = ''], options }) =>
        keyOutput(await addServiceKey(tenants, id, options.alg)),
      ),
    )
  project
    .command('remove-key <project> <keyId>')
    .description('what was signed with this key is refused from now on')
    .action(
      onTables(async (tenants, { args: [id = '', keyId = ''] }) =>
        projectOutput(await removeServiceKey(tenants, id, keyId)),
      ),
    )
}

function applicationCommands(application: Command): void {
  application
    .command('create')
    .description('make an application; prints its applicationId')
    .requiredOption('--project <project>', 'whose it is')
    .option('--name <name>', 'for people')
    .action(
      onTables(async (tenants, { options }) =>
        applicationOutput(await createApplication(tenants, options.project, options)),
      ),
    )
  application
    .command('list')
    .description('applications of a project, or of all')
    .option('--project <project>', 'only those of this one')
    .action(
      onTables(async (tenants, { options }) => {
        const all = await tenants.applications.all()
        return all.filter((one) => !options.project || one.project === options.project).map(applicationOutput)
      }),
    )
}

function fleetCommands(fleet: Command): void {
  fleet
    .command('create')
    .description('make a fleet; prints its enrolment key, which is not kept')
    .option('--name <name>', 'for people')
    .action(
      onTables(async (tenants, { options }) => {
        const { fleet, enrolmentKey } = await createFleet(tenants, options)
        return { ...fleetOutput(fleet), enrolmentKey }
      }),
    )
  fleet
    .command('list')
    .description('every fleet')
    .action(onTables(async (tenants) => (await tenants.fleets.all()).map(fleetOutput)))
}

function tokenCommands(token: Command): void {
  token
    .command('mint')
    .description('sign an access token for a project')
    .requiredOption('--project <project>', 'whose messages it may send')
    .option('--scope <scopes>', 'separated by spaces', Object.values(Scope).join(' '))
    .action(
      onTables(async (tenants, { config, options }) => {
        const scopes = options.scope.split(' ').filter(Boolean)
        const keyring = Keyring.open(config.keyring.file, systemClock.now())
        const { token, expiresAtMs } = await mintToken(tenants, keyring, config.auth, options.project, scopes)
        return { accessToken: token, tokenType: 'Bearer', expiresAt: timeOutput(expiresAtMs) }
      }),
    )
}

function revocationCommands(admin: Command): void {
  admin
    .command('device')
    .description('devices')
    .command('revoke <device>')
    .description('cut a device off; it may not come back, and senders are told')
    .action(
      onTables(async (tenants, { args: [device = ''] }) => {
        await revokeDevice(tenants, device)
        return { device, revoked: true }
      }),
    )
  admin
    .command('registration')
    .description('registrations')
    .command('revoke <registrationId>')
    .description('end a registration; senders are told, and the app gets another when it registers again')
    .action(
      onTables(async (tenants, { config, args: [registrationId = ''] }) => {
        const keys = Keyring.open(config.keyring.file, systemClock.now()).macKeys('registration')
        const address = decodeRegistrationId(new Map(keys.map((key) => [key.kid, key])), registrationId)
        if (!address) throw new CodedError('unknown_registration')
        await revokeRegistration(tenants, address.device, address.registration)
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

/** Options as commander gives them: those of a command are there, or have been refused. */
interface Options {
  id?: string
  name?: string
  alg?: 'RS256' | 'ES256'
  project: string
  scope: string
  json?: boolean
}

interface Run {
  config: Config
  args: string[]
  options: Options
}

/** An action on the tables: connects, prints what `run` gives, and closes, whatever happens. */
function onTables(run: (tenants: Tenants, run: Run) => Promise<Output>) {
  return async function (this: Command): Promise<void> {
    const options = this.opts<Options>()
    const config = loadConfig(this)
    await explained(async () => {
      const fabric = await connect(config.nats, { name: 'admin' })
      try {
        print(await run(openTenants(fabric, systemClock), { config, args: this.args, options }), this)
      } finally {
        await fabric.close()
      }
    })
  }
}

function onKeyring(run: (run: { keyring: Keyring; file: string; args: string[] }) => Output) {
  return async function (this: Command): Promise<void> {
    const { file } = loadConfig(this).keyring
    await explained(async () =>
      print(run({ keyring: Keyring.open(file, systemClock.now()), file, args: this.args }), this),
    )
  }
}

/** What a user can act on is told as its message alone. */
async function explained(run: () => Promise<void>): Promise<void> {
  try {
    await run()
  } catch (error) {
    if (error instanceof CodedError) throw new CommandError(`${error.message} (${error.code})`, 1, { cause: error })
    if (error instanceof FabricError || error instanceof KeyringError) {
      throw new CommandError(error.message, 1, { cause: error })
    }
    throw error
  }
}

function print(output: Output, command: Command): void {
  const write = command.configureOutput().writeOut ?? ((text: string) => process.stdout.write(text))
  if (command.opts<Options>().json) write(`${JSON.stringify(output, null, 2)}\n`)
  else write([output].flat().map(block).join('\n'))
}

function block(fields: Record<string, unknown>): string {
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${[value].flat().join(' ')}\n`)
  return lines.join('')
}

function algorithm(): Option {
  return new Option('--alg <algorithm>', 'with which the service account signs').choices(['RS256', 'ES256'])
}

function kindOf(text: string): KeyKind {
  const kind = KEY_KINDS.find((one) => one === text)
  if (!kind) throw new CommandError(`${text} is no kind of key: ${KEY_KINDS.join(', ')}`, 2)
  return kind
}

function projectOutput(project: ProjectRecord): Record<string, unknown> {
  return {
    projectId: project.id,
    name: project.name,
    isActive: project.isActive,
    clientId: project.serviceAccount.clientId,
    keyIds: project.serviceAccount.keys.map((key) => key.kid),
    createdAt: timeOutput(project.createdAtMs),
    updatedAt: timeOutput(project.updatedAtMs),
  }
}

function keyOutput({ keyId, alg, privateKey }: PrivateServiceKey): Record<string, unknown> {
  return { keyId, alg, privateKey }
}

function applicationOutput({ id, project, name, createdAtMs }: ApplicationRecord): Record<string, unknown> {
  return { applicationId: id, projectId: project, name, createdAt: timeOutput(createdAtMs) }
}

function fleetOutput({ id, name, createdAtMs }: FleetRecord): Record<string, unknown> {
  return { fleetId: id, name, createdAt: timeOutput(createdAtMs) }
}

function timeOutput(ms: number): string {
  return new Date(ms).toISOString()
}
