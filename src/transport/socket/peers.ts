/**
 * The peers that may speak for other addresses: load balancers, which send a PROXY header (version 2) before the
 * bytes of a device. From any other peer the header would be a way around the limits for each address.
 */
import { BlockList, isIP } from 'node:net'

export class TrustedPeers {
  private readonly list = new BlockList()

  /** @param networks addresses, or networks such as `10.0.0.0/8`. Throws RangeError if one is neither. */
  constructor(networks: readonly string[]) {
    for (const network of networks) this.add(network)
  }

  /** @param address as the listener has it. */
  has(address: string): boolean {
    const version = isIP(address)
    return version !== 0 && this.list.check(address, version === 6 ? 'ipv6' : 'ipv4')
  }

  private add(network: string): void {
    const [address = '', prefix] = network.split('/')
    const version = isIP(address)
    const bits = version === 6 ? 128 : 32
    const length = prefix === undefined ? bits : Number(prefix)
    const isLength = /^\d+$/.test(prefix ?? '0') && length <= bits
    if (version === 0 || !isLength) {
      throw new RangeError(`transport.proxyProtocolFrom: ${network} is neither an address nor a network`)
    }
    this.list.addSubnet(address, length, version === 6 ? 'ipv6' : 'ipv4')
  }
}
