/** The clock of a part, set wrong while it runs: a preloaded module (skew.ts) adds what stands in a file. */
import { renameSync, writeFileSync } from 'node:fs'

export const SKEW_FILE = 'FAULTS_SKEW_FILE'

/** Variables with which a part's clock follows the file. */
export function skewEnvironment(file: string): Record<string, string> {
  return { NODE_OPTIONS: `--import=${new URL('./skew.js', import.meta.url).href}`, [SKEW_FILE]: file }
}

export function writeSkew(file: string, aheadMs: number): void {
  writeFileSync(`${file}.new`, String(aheadMs))
  renameSync(`${file}.new`, file)
}
