/**
 * Decides which addresses a webhook may reach. Developers of a project choose its url, and a core can reach machines that
 * they must not talk to. So every address that is not public is refused, except those that the operator allows.
 *
 * The check is made for the address of the connection, after the name was resolved.
 */
import { lookup as systemLookup } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import { listedNetworks, Networks } from '../../../networks.js'

/** RFC 6890 and its successors: this host, private, shared, loopback, link-local, documentation, benchmarks, multicast, reserved. */
const REFUSED = [
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24'],
  ...['192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24'],
  ...['224.0.0.0/4', '240.0.0.0/4'],
  ...['2001:db8::/32', '3fff::/20'],
  // These networks embed IPv4 addresses, which a third party would reach for us.
  ...['2001::/23', '2002::/16'],
]

/** All that IANA has given out of IPv6 for global use. Every other IPv6 address is refused, known or not. */
const GLOBAL_IPV6 = ['2000::/3']

/** IPv4 addresses written as IPv6. They count as IPv4 addresses. */
const MAPPED_IPV4 = ['::ffff:0:0/96']

export const ADDRESS_REFUSED = 'address_refused'

export class AddressGuard {
  private readonly refused = new Networks(REFUSED)
  private readonly globalIpv6 = new Networks(GLOBAL_IPV6)
  private readonly mappedIpv4 = new Networks(MAPPED_IPV4)
  private readonly allowed: Networks

  /** @param allowed as the setting has it. Throws RangeError where that is no list of addresses and networks. */
  constructor(allowed: string) {
    this.allowed = new Networks(listedNetworks(allowed))
  }

  mayReach(address: string): boolean {
    if (this.allowed.has(address)) return true
    if (this.refused.has(address)) return false
    return isIP(address) === 4 || this.globalIpv6.has(address) || this.mappedIpv4.has(address)
  }

  /** False for a literal address that may not be reached; a name is judged when it is resolved. */
  mayName(host: string): boolean {
    const literal = host.replace(/^\[(.*)\]$/, '$1')
    return isIP(literal) === 0 || this.mayReach(literal)
  }

  /** As dns.lookup, without the addresses that may not be reached; where none is left, an error with the code ADDRESS_REFUSED. */
  lookup(resolve: LookupAll = systemLookup): LookupFunction {
    return (host, options, callback) => {
      resolve(host, { ...options, all: true }, (error, found) => {
        if (error) return callback(error, '')
        const good = found.filter(({ address }) => this.mayReach(address))
        const [first] = good
        if (!first)
          return callback(Object.assign(new Error(`no address of it may be reached`), { code: ADDRESS_REFUSED }), '')
        if (options.all) callback(null, good)
        else callback(null, first.address, first.family)
      })
    }
  }
}

/** As dns.lookup with `all`. */
export type LookupAll = (
  host: string,
  options: { all: true },
  callback: (error: NodeJS.ErrnoException | null, found: { address: string; family: number }[]) => void,
) => void
