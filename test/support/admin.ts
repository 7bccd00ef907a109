/** Runs `borealis admin` commands in this process, as a shell would, and returns their output. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { stringify } from 'yaml'
import { adminCommand } from '../../src/cli/admin.js'

// biome-ignore lint/suspicious/noExplicitAny: output is compared, not trusted
export type Output = any

export interface AdminCli {
  /** Runs `borealis admin <words>`. Resolves with its output. */
  text(...words: string[]): Promise<string>
  json(...words: string[]): Promise<Output>
}

/** Writes `config`, the sections of a configuration file, to `folder`; every command reads that file. */
export function adminCli(folder: string, config: object): AdminCli {
  const configFile = join(folder, 'borealis.yaml')
  writeFileSync(configFile, stringify(config))
  const text = async (...words: string[]) => {
    const program = new Command('borealis').option('--config <file>').exitOverride()
    const admin = adminCommand()
    let written = ''
    const writeOut = (text: string) => {
      written += text
    }
    for (const group of admin.commands) {
      for (const command of group.commands) command.exitOverride().configureOutput({ writeOut })
    }
    program.addCommand(admin)
    await program.parseAsync(['--config', configFile, 'admin', ...words], { from: 'user' })
    return written
  }
  return { text, json: async (...words) => JSON.parse(await text(...words, '--json')) }
}
