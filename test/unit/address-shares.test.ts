/** One network takes at most its share of connections and of requests in flight. */
import t from 'tap'
import { AddressShares } from '../../src/core/api/address-shares.js'

const taken = (shares: AddressShares, addresses: string[]) => addresses.filter((address) => shares.take(address)).length
const times = (count: number, addressOf: (n: number) => string) => Array.from({ length: count }, (_, n) => addressOf(n))

t.test('an address takes its share and leaves the rest to others', async (t) => {
  const shares = new AddressShares(20, 50)
  t.equal(
    taken(
      shares,
      times(30, () => '192.0.2.1'),
    ),
    10,
  )
  t.equal(
    taken(
      shares,
      times(30, () => '192.0.2.2'),
    ),
    10,
  )
  shares.release('192.0.2.1')
  t.equal(shares.take('192.0.2.1'), true, 'what was given back can be taken again')
  t.equal(shares.take('192.0.2.1'), false)
})

t.test('the addresses of one /64 share, and those of one /48 take one and a half shares', async (t) => {
  const shares = new AddressShares(20, 50)
  t.equal(
    taken(
      shares,
      times(30, (n) => `2001:db8:1:1::${n}`),
    ),
    10,
  )
  t.equal(
    taken(
      shares,
      times(30, (n) => `2001:db8:1:${n + 2}::1`),
    ),
    5,
    'other /64 of the same /48',
  )
  t.equal(
    taken(
      shares,
      times(30, (n) => `2001:db8:2:${n}::1`),
    ),
    15,
    'another /48',
  )
})

t.test('a share of 100 percent is all', async (t) => {
  t.equal(
    taken(
      new AddressShares(20, 100),
      times(30, () => '192.0.2.1'),
    ),
    20,
  )
})

t.test('a share is at least one', async (t) => {
  t.equal(
    taken(
      new AddressShares(4, 1),
      times(3, () => '192.0.2.1'),
    ),
    1,
  )
})
