import { claimPorts } from '../../src/cli/start/ports.js'

/** A port that is free now. Another process may still take it first. */
export async function freePort(): Promise<number> {
  const [port = 0] = await claimPorts([{ host: '127.0.0.1', port: 0, setting: 'bench', variable: 'bench' }])
  return port
}
