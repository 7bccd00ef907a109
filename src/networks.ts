/** A set of IP networks. An IPv4 address in the notation of IPv6 (`::ffff:10.0.0.1`) counts as the IPv4 address. */
import { BlockList, isIP } from 'node:net'

export class Networks {
  private readonly list = new BlockList()

  /**
   * @param networks addresses, or networks such as `10.0.0.0/8`
   * @param name of the setting they come from, for the error. Throws RangeError if one of them is neither.
   */
  constructor(networks: readonly string[], name?: string) {
    for (const network of networks) {
      const [address = '', prefix] = network.split('/')
      const version = isIP(address)
      const bits = version === 6 ? 128 : 32
      const length = prefix === undefined ? bits : Number(prefix)
      if (version === 0 || !/^\d+$/.test(prefix ?? '0') || length > bits) {
        const prefixed = name === undefined ? '' : `${name}: `
        throw new RangeError(`${prefixed}${network} is neither an address nor a network`)
      }
      this.list.addSubnet(address, length, version === 6 ? 'ipv6' : 'ipv4')
    }
  }

  /** False also for a text that is no address. */
  has(address: string): boolean {
    const version = isIP(address)
    return version !== 0 && this.list.check(address, version === 6 ? 'ipv6' : 'ipv4')
  }
}

/** The parts of a setting that lists networks, separated by commas. */
export const listedNetworks = (text: string): string[] =>
  text
    .split(',')
    .map((one) => one.trim())
    .filter(Boolean)
