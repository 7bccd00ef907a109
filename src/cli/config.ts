/** `borealis config`: shows, checks and documents the settings. */
import { Command } from 'commander'
import { stringify } from 'yaml'
import { type Config, isSecret, settings } from '../config/config.js'
import { configReference } from './config-reference.js'
import { loadConfig } from './context.js'
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
  .action((_options, command: Command) => {
    loadConfig(command)
    process.stdout.write('the configuration is valid\n')
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
