/** Ports for one run: free when looked at, which is as good as it gets. */
import { claimPorts } from '../../src/cli/start/ports.js'

export async function freePort(): Promise<number> {
  const [port = 0] = await claimPorts([{ host: '127.0.0.1', port: 0, setting: 'bench', variable: 'bench' }])
  return port
}
