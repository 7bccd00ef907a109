/**
 * Decides which addresses a webhook may reach. Developers of a project choose the url, and a core can reach machines that
 * they must not reach. So all addresses that are not public are refused, except those that the operator allows.
 *
 * The check covers the address of the connection, after the resolution of the name: a name may resolve to another address
 * each time.
 */
import { lookup as systemLookup } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import { listedNetworks, Networks } from '../../../networks.js'

/** RFC 6890 and its successors: this host, private, shared, loopback, link-local, documentation, benchmarks, multicast, reserved. */
const REFUSED = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
  '2001:db8::/32',
  '3fff::/20',
  // Gateways translate addresses of these networks to IPv4 addresses, which may be private.
  '2001::/23',
  '2002::/16',
]

/** The only IPv6 network that IANA has assigned for global use. All other IPv6 addresses are refused. */
const GLOBAL_IPV6 = ['2000::/3']

/** IPv4 addresses written as IPv6. They count as IPv4 addresses. */
const MAPPED_IPV4 = ['::ffff:0:0/96']

export const ADDRESS_REFUSED = 'address_refused'

export class AddressGuard {
  private readonly refused = new Networks(REFUSED)
  private readonly globalIpv6 = new Networks(GLOBAL_IPV6)
  private readonly mappedIpv4 = new Networks(MAPPED_IPV4)
  private readonly allowed: Networks

  /** @param allowed the setting `webhooks.allowedNetworks`. Throws RangeError if an entry is not an address or network. */
  constructor(allowed: string) {
    this.allowed = new Networks(listedNetworks(allowed))
  }

  mayReach(address: string): boolean {
    if (this.allowed.has(address)) return true
    if (this.refused.has(address)) return false
    return isIP(address) === 4 || this.globalIpv6.has(address) || this.mappedIpv4.has(address)
  }

  /** False for a literal address that is refused. A name is checked at its resolution, by lookup(). */
  mayName(host: string): boolean {
    const literal = host.replace(/^\[(.*)\]$/, '$1')
    return isIP(literal) === 0 || this.mayReach(literal)
  }

  /** Like dns.lookup, without the refused addresses. If no address remains, the error has the code ADDRESS_REFUSED. */
  lookup(resolve: LookupAll = systemLookup): LookupFunction {
    return (host, options, callback) => {
      resolve(host, { ...options, all: true }, (error, found) => {
        if (error) return callback(error, '')
        const allowed = found.filter(({ address }) => this.mayReach(address))
        const [first] = allowed
        if (!first)
          return callback(
            Object.assign(new Error(`all addresses of ${host} are refused`), { code: ADDRESS_REFUSED }),
            '',
          )
        if (options.all) callback(null, allowed)
        else callback(null, first.address, first.family)
      })
    }
  }
}

/** The signature of dns.lookup with `all`. */
export type LookupAll = (
  host: string,
  options: { all: true },
  callback: (error: NodeJS.ErrnoException | null, found: { address: string; family: number }[]) => void,
) => void
