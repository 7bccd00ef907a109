/** Configures a system of bench with the schema and the environment variables of the product. */
import { type Config, readConfig, settings } from '../../src/config/config.js'

/** Settings that differ from the defaults, by section. */
export type Overrides = { [S in keyof Config]?: Partial<Config[S]> }

/** These settings as environment variables of a part. Throws RangeError if a setting does not exist. */
export function environmentOf(overrides: Overrides): Record<string, string> {
  const environment: Record<string, string> = {}
  for (const [section, values] of Object.entries(overrides)) {
    for (const [key, value] of Object.entries(values)) {
      const setting = settings.find(({ path }) => path === `${section}.${key}`)
      if (!setting) throw new RangeError(`there is no setting ${section}.${key}`)
      environment[setting.variable] = Array.isArray(value) ? value.join(',') : String(value)
    }
  }
  return environment
}

/** The complete, checked configuration with these settings. The variables of this process are ignored. */
export function configWith(overrides: Overrides): Config {
  return readConfig({ environment: environmentOf(overrides) })
}

export function mergeOverrides(...all: Overrides[]): Overrides {
  const merged: Record<string, object> = {}
  for (const overrides of all) {
    for (const [section, values] of Object.entries(overrides)) merged[section] = { ...merged[section], ...values }
  }
  return merged as Overrides
}
