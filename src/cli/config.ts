/** `borealis config`: shows, checks and documents the settings. */
import { Command, Option } from 'commander'
import { stringify } from 'yaml'
import { type Config, isSecret, settings } from '../config/config.js'
import { PARTS, type Part, problemsOfStart } from './config-check.js'
import { configReference } from './config-reference.js'
import { CommandError, loadConfig } from './context.js'
import { metricsReference } from './metrics-reference.js'

export const configCommand = new Command('config').description('show or check the configuration')

configCommand
  .command('show')
  .description('print every setting in force as YAML; defaults, file and environment merged, secrets hidden')
  .action((_options, command: Command) => {
    process.stdout.write(stringify(withoutSecretSettings(loadConfig(command))))
  })

configCommand
  .command('check')
  .description('check the file and the environment, and report all mistakes at once (exit code 2)')
  .addOption(
    new Option(
      '--start <part>',
      'also what a start of this part on this machine would find: ports, files, keyring, NATS and its permissions (exit code 1)',
    ).choices(PARTS),
  )
  .action(async ({ start: part }: { start?: Part }, command: Command) => {
    const config = loadConfig(command)
    process.stdout.write('the configuration is valid\n')
    if (part === undefined) return
    const problems = await problemsOfStart(config, part)
    if (problems.length > 0) throw new CommandError(problems.join('\nborealis: '))
    process.stdout.write(`a ${part} can start\n`)
  })

configCommand
  .command('reference')
  .description('print docs/operate/configuration.md: every setting with its variable, default and meaning')
  .action(() => {
    process.stdout.write(configReference())
  })

configCommand
  .command('metrics')
  .description('print docs/operate/metrics.md: every metric with its type, labels and meaning')
  .action(() => {
    process.stdout.write(metricsReference())
  })

function withoutSecretSettings(config: Config): Record<string, unknown> {
  const copy = structuredClone(config) as Record<string, Record<string, unknown>>
  for (const { path } of settings.filter((setting) => isSecret(setting.path))) {
    const [section = '', key = ''] = path.split('.')
    const values = copy[section]
    if (values?.[key] !== undefined && values[key] !== '') values[key] = '[secret]'
  }
  return copy
}
