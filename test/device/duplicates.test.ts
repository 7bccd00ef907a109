/** What the wire brings twice, the app sees once: of one device and of groups, in one life and across a crash. */
import t from 'tap'
import { MachineModel } from './machine.js'
import { group, notify, welcome } from './scripted-server.js'

const ONCE = { plain: 1, marked: 0 }

function live(model: MachineModel): void {
  model.settle()
  model.openSocket()
  model.receive(welcome({ serverTimeMs: model.now }))
  model.settle()
}

for (const [what, make] of Object.entries({ 'of one device': notify, 'of a group': (id: bigint) => group(id, 5) })) {
  t.test(`a message ${what} that comes again`, async (t) => {
    const model = new MachineModel(() => 0)
    live(model)
    model.receive(make(1n), make(1n))
    model.settle()
    t.same(model.shown.get(1n), ONCE, 'twice in one turn')
    model.receive(make(1n))
    model.settle()
    t.same(model.shown.get(1n), ONCE, 'later')
    model.crash()
    live(model)
    model.receive(make(1n))
    model.settle()
    t.same(model.shown.get(1n), ONCE, 'in another life')
  })
}

t.test('a group message that is known from elsewhere in the log still moves the cursor', async (t) => {
  const model = new MachineModel(() => 0)
  live(model)
  model.receive({ type: 'CAUGHT_UP', cursor: { incarnation: 1n, sequence: 4, subscriptions: 1 } })
  model.receive(group(1n, 5), group(1n, 9))
  model.settle()
  t.same(model.shown.get(1n), ONCE)
  t.equal(model.memory.cursor?.sequence, 9)
})
