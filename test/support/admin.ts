/** Runs `borealis admin` and `borealis keyring` commands in this process, as a shell would, and returns their output. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { stringify } from 'yaml'
import { adminCommand } from '../../src/cli/admin.js'
import { keyringCommand } from '../../src/cli/keyring.js'

// biome-ignore lint/suspicious/noExplicitAny: output is compared, not trusted
export type Output = any

export interface AdminCli {
  /** Runs `borealis admin <words>`. Resolves with its output. */
  text(...words: string[]): Promise<string>
  /** Runs `borealis admin <words> --json`. Resolves with its parsed output. */
  json(...words: string[]): Promise<Output>
  /** Runs `borealis keyring <words> --json`. */
  keyring(...words: string[]): Promise<Output>
}

/** Writes `config`, the sections of a configuration file, to `folder`. Each command reads that file. */
export function adminCli(folder: string, config: object): AdminCli {
  const configFile = join(folder, 'borealis.yaml')
  writeFileSync(configFile, stringify(config))
  const run = async (group: Command, words: string[]) => {
    const program = new Command('borealis').option('--config <file>').exitOverride()
    let written = ''
    const writeOut = (text: string) => {
      written += text
    }
    for (const command of group.commands.flatMap((one) => [one, ...one.commands])) {
      command.exitOverride().configureOutput({ writeOut })
    }
    program.addCommand(group)
    await program.parseAsync(['--config', configFile, group.name(), ...words], { from: 'user' })
    return written
  }
  return {
    text: (...words) => run(adminCommand(), words),
    json: async (...words) => JSON.parse(await run(adminCommand(), [...words, '--json'])),
    keyring: async (...words) => JSON.parse(await run(keyringCommand(), [...words, '--json'])),
  }
}
