import { ConfigSchema, isSecret, type Setting, settings } from '../config/config.js'
import { expectation } from '../core/domain/schema.js'

/** Makes docs/operate/configuration.md from the schema. A test compares the two. */
export function configReference(): string {
  const sections = Object.entries(ConfigSchema.properties).map(([name, schema]) => sectionText(name, schema))
  return `${[intro, firstSettings(), ...sections].join('\n\n')}\n`
}

const intro = `# Configuration

Made by \`borealis config reference\` from the schema of the settings: do not edit by hand.

Every process reads the same settings. Later sources win:

1. the default;
2. the YAML file that \`--config FILE\` or \`BOREALIS_CONFIG\` names, with one section for each heading below;
3. environment variables. A variable in a systemd unit or a compose file overrides the YAML file without a message.

\`borealis config check\` reports all mistakes at once. \`borealis config show\`, run with the environment of the process,
prints the settings in force. Settings whose names end in \`Ms\` are in milliseconds, those that end in \`Bytes\` or
\`BytesMax\` in bytes. Lists in the environment are separated by commas.

Two variables have names that other tools use as well: \`NATS_URL\` means \`nats.url\`, and \`npm start\` then starts no
nats-server; \`NATS_SERVER_BIN\` is the nats-server that \`npm start\` starts.

## The settings to set first

An installation beyond one machine sets these fifteen. For most others the defaults are right.`

/** Settings that an operator has to decide, with the reason. A name that is no setting is an error. */
const FIRST: readonly (readonly [names: readonly string[], value: string])[] = [
  [['nats.url'], 'The address of nats-server. Of a cluster, list all servers, separated by commas'],
  [
    ['nats.user', 'nats.password'],
    'The NATS user of this part. Core, transport and `borealis admin` each have their own',
  ],
  [
    ['store.replicas'],
    'In a NATS cluster: 3. Decide it before the first start, together with `store.split`, which cannot change later',
  ],
  [
    ['keyring.file', 'keyring.transportFile'],
    'Every core has **the same** keyring: copy the file of the first core before you start a second. A core without a keyring makes a new one, and then does not recognise the registrationIds and tokens of the others. Give transports an extract (`borealis admin keyring extract`)',
  ],
  [
    ['http.host', 'http.port'],
    'Where the API listens. The default is loopback: set the host when the reverse proxy is on another machine',
  ],
  [
    ['http.publicUrl'],
    'Where app servers reach the API, such as https://push.example.com. It stands in settings files and in the audience of client assertions: set it before you make projects, for cores and for `borealis admin`',
  ],
  [
    ['http.trustedProxies'],
    'The addresses of the reverse proxy. Without it, all app servers count as one address for the limits',
  ],
  [
    ['auth.transportUrl'],
    'Set it for cores: the wss address at which devices connect, usually the load balancer. Devices learn it when they enrol, and keep it',
  ],
  [
    ['transport.instance'],
    'A name for each transport instance. Two instances of one name take each other for the same',
  ],
  [
    ['transport.tlsCertificate', 'transport.tlsKey'],
    'For TLS in the transport. Leave both empty if the load balancer ends TLS',
  ],
  [
    ['transport.proxyProtocolFrom'],
    'The addresses of the load balancer, if it sends PROXY headers. Without them all devices have one address, and `transport.connectionsPerAddressMax` (20,000) is the limit for all together',
  ],
  [
    ['transport.connectionsTarget'],
    'How many devices the instance is for. It decides the number of workers. A worker holds 90% of its file descriptors, so raise `LimitNOFILE` too',
  ],
  [
    ['metrics.port'],
    'A port for Prometheus, `/healthz` and `/readyz`. Two parts on one machine need two ports: set it in the environment of each, not in the common file',
  ],
  [
    ['admin.port'],
    'A port on loopback. `borealis status`, `reload`, `rolling-restart` and `drain` need it, in the configuration of the transport and in the one that the command reads',
  ],
  [
    ['webhooks.allowedNetworks'],
    'Your private networks in which app servers receive webhooks, for cores and for `borealis admin`. All private addresses are refused otherwise',
  ],
]

function firstSettings(): string {
  const rows = FIRST.map(([names, value]) => {
    for (const name of names) {
      if (!settings.some(({ path }) => path === name)) throw new Error(`${name} is not a setting`)
    }
    return `| ${names.map((name) => `\`${name}\``).join(', ')} | ${value} |`
  })
  return ['| setting | set it to |', '| --- | --- |', ...rows].join('\n')
}

function sectionText(name: string, schema: object): string {
  const { description = '' } = schema as { description?: string }
  const rows = settings.filter(({ path }) => path.startsWith(`${name}.`)).map(row)
  const table = ['| setting | variable | value | default | meaning |', '| --- | --- | --- | --- | --- |', ...rows]
  return [`## ${name}`, ...(description === '' ? [] : [description]), table.join('\n')].join('\n\n')
}

function row({ path, variable, schema }: Setting): string {
  const key = path.slice(path.indexOf('.') + 1)
  const value = isSecret(path) ? `${expectation(schema)}, secret` : expectation(schema)
  const cells = [`\`${key}\``, `\`${variable}\``, value, defaultText(key, schema.default), schema.description ?? '']
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
}

/** Large numbers of milliseconds and bytes with a reading for people: `5616000000` (65 d). */
function defaultText(key: string, value: unknown): string {
  if (value === undefined || value === '') return 'none'
  const text = `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``
  const reading = typeof value === 'number' ? readingOf(key, value) : ''
  return reading === '' ? text : `${text} (${reading})`
}

const DURATIONS: readonly (readonly [string, number])[] = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1_000],
]
const SIZES: readonly (readonly [string, number])[] = [
  ['GiB', 2 ** 30],
  ['MiB', 2 ** 20],
  ['KiB', 2 ** 10],
]

/** In the largest unit that divides the value; empty where there is none. */
function readingOf(key: string, value: number): string {
  const units = /Ms(Min|Max)?$/.test(key) ? DURATIONS : /Bytes(Max)?$/.test(key) ? SIZES : []
  const unit = units.find(([, size]) => value >= size && value % size === 0)
  return unit ? `${value / unit[1]} ${unit[0]}` : ''
}
