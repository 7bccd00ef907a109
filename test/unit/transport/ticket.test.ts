import t from 'tap'
import { Keyring } from '../../../src/keyring.js'
import { TicketBox } from '../../../src/transport/admission/ticket.js'

const keyring = Keyring.generate(0)
const box = new TicketBox(keyring.transportKeys().tickets)
const ticket = {
  ...{ device: 'dev_0123456789abcdefghij', instance: 'eu-1', worker: '0-abc', connection: 2 ** 52 + 1 },
  ...{ revision: 77, subscriptions: 9, expiresAtMs: 5_000_000, tokenExpiresAtMs: 9_000_000 },
  ...{ tokenIssuedAtMs: 2_000_000, fleet: 'fleet_0123456789zz' },
}

t.test('a sealed ticket has fewer than 84 bytes and opens until it expires', async (t) => {
  const sealed = box.seal(ticket)
  t.ok(sealed.length < 84, `${sealed.length} bytes`)
  t.same(box.open(sealed, 4_999_999), ticket)
  t.equal(box.open(sealed, 5_000_000), null, 'expired')
})

t.test('a ticket with a changed byte, or cut short, is refused', async (t) => {
  const sealed = box.seal(ticket)
  for (let i = 0; i < sealed.length; i++) {
    const changed = Uint8Array.from(sealed)
    changed[i] = (changed[i] ?? 0) ^ 0x40
    t.equal(box.open(changed, 0), null, `byte ${i} changed`)
    t.equal(box.open(sealed.subarray(0, i), 0), null, `cut to ${i} bytes`)
  }
})

t.test('a ticket keeps device and fleet ids of every form, also those that are not packed', async (t) => {
  for (const device of [
    'dev_00000000000000000000',
    'dev_zzzzzzzzzzzzzzzzzzzz',
    'dev_0000000000z000000001',
    'till-7',
    'dev_',
  ]) {
    const other = { ...ticket, device, connection: Number.MAX_SAFE_INTEGER, revision: 0 }
    t.same(box.open(box.seal(other), 0), other, device)
  }
  for (const fleet of ['fleet_000000000000', 'fleet_zzzzzzzzzzzz', 'fleet', '']) {
    t.same(box.open(box.seal({ ...ticket, fleet }), 0), { ...ticket, fleet }, fleet)
  }
})

t.test('sealing another ticket leaves the bytes of an earlier one unchanged', async (t) => {
  const sealed = box.seal(ticket)
  box.seal({ ...ticket, device: 'dev_zzzzzzzzzzzzzzzzzzzz', fleet: '' })
  t.same(box.open(sealed, 0), ticket)
})

t.test('after a rotation an old ticket opens, until the old key is retired', async (t) => {
  const keyring = Keyring.generate(0)
  const sealed = new TicketBox(keyring.transportKeys().tickets).seal(ticket)
  const oldKid = keyring.macKey('ticket').kid
  keyring.activate('ticket', keyring.add('ticket', 1), 1)
  t.same(new TicketBox(keyring.transportKeys().tickets).open(sealed, 0), ticket, 'rotated')
  keyring.retire('ticket', oldKid)
  t.equal(new TicketBox(keyring.transportKeys().tickets).open(sealed, 0), null, 'retired')
})
