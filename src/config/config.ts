import { existsSync, readFileSync } from 'node:fs'
import Type, { type Static, type TObject, type TProperties } from 'typebox'
import { Settings } from 'typebox/system'
import { Value } from 'typebox/value'
import { parse as parseYaml } from 'yaml'
import { AdminApiSettings, HttpSettings, LimitSettings } from '../core/api/settings.js'
import { DeviceLimits, MessageLimits } from '../core/domain/limits.js'
import { expectation } from '../core/domain/schema.js'
import { IngressSettings } from '../core/ingress/settings.js'
import { WebhookSettings } from '../core/outcomes/webhooks/settings.js'
import { CoreSettings } from '../core/settings.js'
import { AuthSettings } from '../core/tenants/auth/settings.js'
import { DeviceSettings } from '../device/settings.js'
import { NatsSettings, StoreSettings } from '../nats/settings.js'
import { LogSettings, secretFields } from '../observe/log.js'
import { MetricsSettings } from '../observe/metrics.js'
import { TransportSettings } from '../transport/settings.js'
import { AdminSettings } from '../transport/supervisor/admin-settings.js'
import { isObject } from '../type-guards.js'
import { KeyringSettings } from './keyring-settings.js'
import { fromText, type LeafSchema, variableOf } from './leaf.js'
import { isServiceLink } from './service-links.js'
import { StartSettings } from './start-settings.js'

/**
 * The configuration of every process: one schema, assembled from the settings of each part. Later sources win: defaults,
 * the YAML file, the environment (`BOREALIS_<SECTION>_<KEY>`). All mistakes are reported together.
 */
const sections = {
  nats: section(NatsSettings, 'The connection to NATS.'),
  store: section(StoreSettings, 'What JetStream keeps, and how much of it.'),
  keyring: section(KeyringSettings),
  core: section(CoreSettings),
  http: section(HttpSettings),
  adminApi: section(AdminApiSettings),
  auth: section(AuthSettings),
  messages: section(MessageLimits),
  devices: section(DeviceLimits),
  ingress: section(IngressSettings),
  limits: section(LimitSettings),
  webhooks: section(WebhookSettings),
  transport: section(TransportSettings),
  device: section(DeviceSettings, 'The device client.'),
  log: section(LogSettings),
  metrics: section(MetricsSettings),
  admin: section(AdminSettings),
  start: section(StartSettings),
}

export const ConfigSchema = Type.Object(sections, { additionalProperties: false, default: {} })
export type Config = Static<typeof ConfigSchema>

export interface ConfigProblem {
  /** `section.key`, or the name of a file that cannot be read. */
  path: string
  /** Origin of the value: the file name or the environment variable. */
  source: string
  /** The expected and the present value, such as `expected an integer from 0 to 65535, found "a"`. */
  message: string
}

export class ConfigError extends Error {
  constructor(readonly problems: readonly ConfigProblem[]) {
    super(
      [
        `the configuration has ${problems.length === 1 ? 'a mistake' : `${problems.length} mistakes`}:`,
        ...problems.map(({ path, source, message }) => `  ${path} (${source}): ${message}`),
      ].join('\n'),
    )
    this.name = 'ConfigError'
  }
}

export interface ConfigSources {
  /** Path of a YAML file. A named file that does not exist is a mistake. */
  file?: string | undefined
  environment: Readonly<Record<string, string | undefined>>
}

/** Reads, merges and checks all sources. Throws ConfigError with every mistake. */
export function readConfig(sources: ConfigSources): Config {
  const file = sources.file ?? sources.environment.BOREALIS_CONFIG
  const problems: ConfigProblem[] = []
  const values = file === undefined || file === '' ? {} : readFile(file, problems)
  const origins = new Map<string, string>()
  // Aliases come first, so that our own names win.
  const variables = Object.entries(sources.environment).sort(([a], [b]) => Number(b in aliases) - Number(a in aliases))
  for (const [name, text] of variables) {
    if (text === undefined || !isOurs(name) || isServiceLink(name, text)) continue
    const setting = settingsByVariable.get(name)
    if (setting === undefined) {
      problems.push({ path: name, source: 'environment', message: noSuchSetting(renamedVariables.get(name)) })
      continue
    }
    origins.set(setting.path, name)
    assign(values, setting.path, fromText(setting.schema, text))
  }
  const complete = Value.Default(ConfigSchema, values)
  problems.push(...check(complete, (path) => origins.get(path) ?? file ?? 'default'))
  if (problems.length > 0) throw new ConfigError(problems)
  return complete as Config
}

export interface Setting {
  /** `section.key`. */
  path: string
  variable: string
  schema: LeafSchema
}

/** All settings, in the order of the schema. */
export const settings: readonly Setting[] = Object.entries(sections).flatMap(([name, schema]) => leaves(name, schema))

/** Variables with our prefix that are no settings: the name of the file, options of `device`, and those of tests. */
const reserved = /^BOREALIS_(CONFIG$|ENROL_URL$|ENROLMENT_KEY$|TEST_|CHILD_)/

const settingsByVariable = new Map(settings.map((setting) => [setting.variable, setting]))

/** Names that NATS tools use as well. NATS_SERVER_BIN is read in nats/server/server-process.ts. */
const aliases: Readonly<Record<string, string>> = { NATS_URL: 'nats.url' }
for (const [name, path] of Object.entries(aliases)) {
  const setting = settings.find((one) => one.path === path)
  if (setting !== undefined) settingsByVariable.set(name, setting)
}

/** Renamed settings, old path to new path. An old name is refused, and the message gives the new one. */
const renamed: Readonly<Record<string, string>> = {
  'core.notifying': 'core.publishing',
  'core.notifyInHandMax': 'core.publishInflightMax',
  'core.parkedMax': 'core.queueMax',
  'store.appEventsAgeMs': 'store.outcomeEventsAgeMs',
  'store.appEventsBytesMax': 'store.outcomeEventsBytesMax',
  'store.appEventsPerKindMax': 'store.outcomeEventsPerKindMax',
  'store.parkedBytesMax': 'store.queueBytesMax',
  'transport.fabricTimeoutMs': 'transport.coreTimeoutMs',
}
const renamedVariables = new Map(Object.entries(renamed).map(([old, now]) => [variableOf(old), variableOf(now)]))

const noSuchSetting = (now: string | undefined) =>
  now === undefined ? 'there is no such setting' : `this setting is now called ${now}`

const isOurs = (name: string) => (name.startsWith('BOREALIS_') && !reserved.test(name)) || name in aliases

/** True if the value of a setting must not be shown. */
export function isSecret(path: string): boolean {
  return (secretFields as readonly string[]).includes(path.split('.').at(-1) ?? '')
}

/** Parts declare plain objects. Here each becomes a section that rejects unknown keys and may be absent. */
function section<P extends TProperties>(schema: TObject<P>, meaning = ''): TObject<P> {
  const { description = meaning } = schema as { description?: string }
  return Type.Object(schema.properties, { additionalProperties: false, default: {}, description })
}

function leaves(path: string, schema: LeafSchema & { properties?: Record<string, unknown> }): Setting[] {
  if (schema.properties === undefined) return [{ path, variable: variableOf(path), schema }]
  return Object.entries(schema.properties).flatMap(([key, inner]) => leaves(`${path}.${key}`, inner as LeafSchema))
}

function readFile(file: string, problems: ConfigProblem[]): Record<string, unknown> {
  const refuse = (message: string) => {
    problems.push({ path: file, source: 'file', message })
    return {}
  }
  if (!existsSync(file)) return refuse('there is no such file')
  let value: unknown
  try {
    value = parseYaml(readFileSync(file, 'utf8'))
  } catch (error) {
    return refuse(`the file is not YAML: ${(error as Error).message.split('\n')[0]}`)
  }
  if (value === null || value === undefined) return {}
  if (!isObject(value)) return refuse('expected sections, each with its settings')
  // YAML reads a section that has only comments as null. Such a section means its defaults.
  return Object.fromEntries(Object.entries(value).filter(([, inner]) => inner !== null))
}

function assign(target: Record<string, unknown>, path: string, value: unknown): void {
  const [head = '', ...rest] = path.split('.')
  if (rest.length === 0) {
    target[head] = value
    return
  }
  const inner = target[head]
  // A section that is not an object stays unchanged, so that the check reports it.
  if (inner !== undefined && (typeof inner !== 'object' || inner === null)) return
  const next = { ...inner }
  target[head] = next
  assign(next as Record<string, unknown>, rest.join('.'), value)
}

function check(values: unknown, sourceOf: (path: string) => string): ConfigProblem[] {
  const found = new Map<string, ConfigProblem>()
  const add = (path: string, message: string) => {
    if (!found.has(path)) found.set(path, { path, source: sourceOf(path), message })
  }
  for (const error of allErrors(values)) {
    const path = error.instancePath.slice(1).replaceAll('/', '.')
    if (error.keyword === 'additionalProperties') {
      for (const extra of error.params.additionalProperties) {
        const name = [path, extra].filter(Boolean).join('.')
        add(name, noSuchSetting(renamed[name]))
      }
    } else if (error.keyword !== 'boolean') {
      const setting = settings.find((one) => path === one.path || path.startsWith(`${one.path}.`))
      const name = setting?.path ?? path
      const found = isSecret(name) ? 'something else' : JSON.stringify(at(values, name))
      add(name, `expected ${setting ? expectation(setting.schema) : 'a section'}, found ${found}`)
    }
  }
  return [...found.values()]
}

/** typebox stops at 8 errors by default, and this limit can only be changed for the whole process. */
function allErrors(values: unknown) {
  const { maxErrors } = Settings.Get()
  Settings.Set({ maxErrors: 1_000 })
  try {
    return Value.Errors(ConfigSchema, values)
  } finally {
    Settings.Set({ maxErrors })
  }
}

function at(values: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], values)
}
