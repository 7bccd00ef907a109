import type { TableEntry } from '../../src/nats/broker.js'
import { bytes, Collected, type Contract, codeOf, text } from './suite.js'

const BUCKET = 'SESSIONS'
/** `key=value` of a put, `-key` of a delete. */
const summaryOf = ({ key, value, deleted }: TableEntry) => (deleted ? `-${key}` : `${key}=${text(value)}`)

export const tableContract: Contract = (t, open) => {
  t.test('get() returns the last value of a key with its revision, and the earlier value is gone', async (t) => {
    const { a, b } = await open(t)
    const [first, second] = [
      await a.table(BUCKET).put('1.dev', bytes('x')),
      await a.table(BUCKET).put('1.dev', bytes('y')),
    ]
    t.ok(second > first)
    for (const authoritative of [false, true]) {
      const entry = await b.table(BUCKET).get('1.dev', { authoritative })
      t.match(entry, { key: '1.dev', revision: second, deleted: false })
      t.equal(text(entry?.value), 'y')
    }
    t.equal(await b.table(BUCKET).get('1.nobody'), null)
    t.equal((await b.log(`KV_${BUCKET}`).state()).messages, 1, 'one record of the key')
  })

  t.test('put() with a wrong expected revision rejects with the right one; 0 stands for an absent key', async (t) => {
    const table = (await open(t)).a.table(BUCKET)
    const first = await table.put('1.dev', bytes('x'), 0)
    t.match(await codeOf(table.put('1.dev', bytes('y'), 0)), { code: 'wrong_last_sequence', lastSequence: first })
    const second = await table.put('1.dev', bytes('y'), first)
    t.match(await codeOf(table.put('1.dev', bytes('z'), first)), { lastSequence: second })
  })

  t.test('get(), put() and delete() of an invalid key reject with RangeError, and change nothing', async (t) => {
    const table = (await open(t)).a.table(BUCKET)
    await table.put('1.dev', bytes('x'))
    for (const wrong of ['1.x\r\nPUB $KV.SESSIONS.1.dev 1\r\ny', '1.a b', '1.\n', '1.*', '>']) {
      for (const authoritative of [false, true]) {
        await t.rejects(table.get(wrong, { authoritative }), RangeError, JSON.stringify(wrong))
      }
      await t.rejects(table.put(wrong, bytes('y')), RangeError)
      await t.rejects(table.delete(wrong), RangeError)
    }
    t.match((await table.entries()).map(summaryOf), ['1.dev=x'])
  })

  t.test('a deleted key is absent, and can be put again with the expected revision 0', async (t) => {
    const { a } = await open(t)
    const table = a.table(BUCKET)
    const first = await table.put('1.dev', bytes('x'))
    await table.delete('1.dev')
    t.equal(await table.get('1.dev'), null)
    t.equal((await codeOf(table.put('1.dev', bytes('y'), first))).code, 'wrong_last_sequence')
    await table.put('1.dev', bytes('y'), 0)
    t.equal(text((await table.get('1.dev'))?.value), 'y')
  })

  t.test('entries() returns all entries of a filter that are not deleted', async (t) => {
    const table = (await open(t)).a.table(BUCKET)
    t.same(await table.entries(), [])
    for (const key of ['1.a', '2.b', '1.c', '1.d']) await table.put(key, bytes(key))
    await table.delete('1.c')
    t.same((await table.entries()).map(summaryOf).sort(), ['1.a=1.a', '1.d=1.d', '2.b=2.b'])
    t.same((await table.entries('1.*')).map(summaryOf).sort(), ['1.a=1.a', '1.d=1.d'])
    t.same(await table.entries('3.*'), [])
  })

  t.test('watch() reports the present entries before it resolves, and then each change', async (t) => {
    const { a, b } = await open(t)
    for (const key of ['1.a', '1.b', '2.c']) await a.table(BUCKET).put(key, bytes('old'))
    const received = new Collected<string>()
    const watch = await b.table(BUCKET).watch('1.*', (entry) => received.add(summaryOf(entry)))
    t.same(received.all, ['1.a=old', '1.b=old'])
    await a.table(BUCKET).put('1.a', bytes('new'))
    await a.table(BUCKET).put('2.c', bytes('new'))
    await a.table(BUCKET).delete('1.b')
    t.same((await received.until(4)).slice(2), ['1.a=new', '-1.b'])
    await watch.stop()
  })

  t.test('watch() of an empty table resolves, and then reports each change', async (t) => {
    const { a } = await open(t)
    const received = new Collected<string>()
    const watch = await a.table('WORKERS').watch('>', (entry) => received.add(summaryOf(entry)))
    await a.table('WORKERS').put('i.w', bytes('1'))
    t.same(await received.until(1), ['i.w=1'])
    await watch.stop()
  })

  t.test('after a kill -9 of the server a watch reports all entries again, and then each change', async (t) => {
    const { a, b, restart } = await open(t)
    await a.table(BUCKET).put('1.a', bytes('old'))
    const received = new Collected<string>()
    const watch = await b.table(BUCKET).watch('>', (entry) => received.add(summaryOf(entry)))
    await restart(true)
    t.same((await received.until(2))[1], '1.a=old')
    await a.table(BUCKET).put('1.b', bytes('new'))
    t.ok((await received.until(3)).includes('1.b=new'))
    await watch.stop()
  })
}
