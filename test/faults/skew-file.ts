/** Sets the clock of a running part wrong: writes the skew to a file, which the preloaded skew-preload.ts reads. */
import { renameSync, writeFileSync } from 'node:fs'

export const SKEW_FILE = 'FAULTS_SKEW_FILE'

/** The environment variables that make the clock of a part follow the file. */
export function skewEnvironment(file: string): Record<string, string> {
  return { NODE_OPTIONS: `--import=${new URL('./skew-preload.js', import.meta.url).href}`, [SKEW_FILE]: file }
}

export function writeSkew(file: string, aheadMs: number): void {
  writeFileSync(`${file}.new`, String(aheadMs))
  renameSync(`${file}.new`, file)
}
