/** A message that arrives twice is shown once: to one device and to a group, in one run and across a crash (I2). */
import t from 'tap'
import { MachineModel } from './machine.js'
import { group, notify, welcome } from './scripted-server.js'

const ONCE = { plain: 1, marked: 0 }

function connect(model: MachineModel): void {
  model.settle()
  model.openSocket()
  model.receive(welcome({ serverTimeMs: model.now }))
  model.settle()
}

for (const [kind, frame] of Object.entries({ unicast: notify, group: (id: bigint) => group(id, 5) })) {
  t.test(`a ${kind} message that comes twice in one turn is shown once`, async (t) => {
    const model = new MachineModel(() => 0)
    connect(model)
    model.receive(frame(1n), frame(1n))
    model.settle()
    t.same(model.shown.get(1n), ONCE)
  })

  t.test(`a ${kind} message that comes again in a later turn is shown once`, async (t) => {
    const model = new MachineModel(() => 0)
    connect(model)
    model.receive(frame(1n))
    model.settle()
    model.receive(frame(1n))
    model.settle()
    t.same(model.shown.get(1n), ONCE)
  })

  t.test(`a ${kind} message that comes again after a crash is shown once`, async (t) => {
    const model = new MachineModel(() => 0)
    connect(model)
    model.receive(frame(1n))
    model.settle()
    model.crash()
    connect(model)
    model.receive(frame(1n))
    model.settle()
    t.same(model.shown.get(1n), ONCE)
  })
}

t.test('a duplicate of a group message at a higher sequence moves the cursor and is not shown', async (t) => {
  const model = new MachineModel(() => 0)
  connect(model)
  model.receive({ type: 'CAUGHT_UP', cursor: { incarnation: 1n, sequence: 4, subscriptions: 1 } })
  model.receive(group(1n, 5), group(1n, 9))
  model.settle()
  t.same(model.shown.get(1n), ONCE)
  t.equal(model.memory.cursor?.sequence, 9)
})
