/** The product's configuration for a system of bench: its own schema, its own variables. */
import { type Config, readConfig, settings } from '../../src/config/config.js'

/** Some settings of some sections. */
export type Overrides = { [S in keyof Config]?: Partial<Config[S]> }

/** Variables that a part reads these settings from. Throws where there is no such setting. */
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

/** The whole configuration with these settings in it, checked; what is set around us does not count. */
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
