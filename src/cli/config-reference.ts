import { expectation } from '../config/leaf.js'
import { ConfigSchema, isSecret, type Setting, settings } from '../config.js'

/** docs/operate/configuration.md, made from the schema; a test compares the two. */
export function configReference(): string {
  return `${[intro, ...Object.entries(ConfigSchema.properties).map(([name, schema]) => sectionText(name, schema))].join('\n\n')}\n`
}

const intro = `# Configuration

Made by \`borealis config reference\` from the schema: do not edit by hand.

Every process reads the same settings. Later sources win: the default, the YAML file (\`--config FILE\` or
\`BOREALIS_CONFIG\`), the environment. All mistakes are reported at once; \`borealis config check\` does only that, and
\`borealis config show\` prints what is in force. Lists are separated by commas in the environment.

Two variables go by the names that other tools use: \`NATS_URL\` (a running NATS instead of one of our own, as
\`nats.url\`) and \`NATS_SERVER_BIN\` (the nats-server to start).`

function sectionText(name: string, schema: object): string {
  const { description = '' } = schema as { description?: string }
  const rows = settings.filter(({ path }) => path.startsWith(`${name}.`)).map(row)
  const table = ['| setting | variable | value | default | meaning |', '| --- | --- | --- | --- | --- |', ...rows]
  return [`## ${name}`, ...(description === '' ? [] : [description]), table.join('\n')].join('\n\n')
}

function row({ path, variable, schema }: Setting): string {
  const key = path.slice(path.indexOf('.') + 1)
  const value = isSecret(path) ? `${expectation(schema)}, secret` : expectation(schema)
  const cells = [`\`${key}\``, `\`${variable}\``, value, defaultText(schema.default), schema.description ?? '']
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
}

function defaultText(value: unknown): string {
  if (value === undefined || value === '') return 'none'
  return `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``
}
