import { bytes, type Contract, codeOf, text } from './suite.js'

const SUBJECT = 'queued.1.dev_a'
const OTHER = 'queued.1.dev_b'
const LOG = 'QUEUE_1'

export const logContract: Contract = (t, open) => {
  t.test('an append resolves with its sequence and can be read in every way', async (t) => {
    const { a, b } = await open(t)
    const sequence = await a.log(LOG).append(SUBJECT, bytes('one'), { headers: { Kind: 'k' } })
    await a.log(LOG).append(OTHER, bytes('two'))
    const log = b.log(LOG)
    const ways = {
      last: log.last(SUBJECT),
      leader: log.last(SUBJECT, { authoritative: true }),
      at: log.at(sequence),
      next: log.next('queued.1.*', 0),
      'at, authoritative': log.at(sequence, { authoritative: true }),
      'next, authoritative': log.next('queued.1.*', 0, { authoritative: true }),
    }
    for (const [way, read] of Object.entries(ways)) {
      const record = await read
      t.match(record, { subject: SUBJECT, sequence, headers: { Kind: 'k' } }, way)
      t.equal(text(record?.body), 'one', way)
      t.ok(Math.abs((record?.storedAtMs ?? 0) - ((await log.at(sequence))?.storedAtMs ?? 1)) <= 1, way)
    }
    t.equal((await log.next('queued.1.*', sequence + 1))?.subject, OTHER)
  })

  t.test('what is not there reads as null', async (t) => {
    const log = (await open(t)).a.log(LOG)
    t.equal(await log.last(SUBJECT), null)
    t.equal(await log.last(SUBJECT, { authoritative: true }), null)
    t.equal(await log.at(7), null)
    t.equal(await log.at(7, { authoritative: true }), null)
    t.equal(await log.next(SUBJECT, 1), null)
    t.equal(await log.next(SUBJECT, 1, { authoritative: true }), null)
  })

  t.test('own headers come back, and none of the store; no headers are null', async (t) => {
    const log = (await open(t)).a.log('BROADCAST')
    await log.append('broadcast.p.app.x', bytes(''), { messageId: 'm1', expectedLastSubjectSequence: 0 })
    const record = await log.last('broadcast.p.app.x')
    t.equal(record?.headers, null)
    t.equal(record?.body.length, 0)
  })

  t.test('compare-and-set lets one of two through and names the true sequence', async (t) => {
    const { a, b } = await open(t)
    const results = await Promise.allSettled([
      a.log(LOG).append(SUBJECT, bytes('a'), { expectedLastSubjectSequence: 0 }),
      b.log(LOG).append(SUBJECT, bytes('b'), { expectedLastSubjectSequence: 0 }),
    ])
    t.same(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
    await a.log(LOG).append(OTHER, bytes('elsewhere'))
    const last = await a.log(LOG).append(SUBJECT, bytes('c'), { expectedLastSubjectSequence: 1 })
    const error = await codeOf(a.log(LOG).append(SUBJECT, bytes('d'), { expectedLastSubjectSequence: 1 }))
    t.match(error, { code: 'wrong_last_sequence', lastSequence: last })
  })

  t.test('a repeated message id is stored once and answered with the first sequence', async (t) => {
    const { a, b } = await open(t)
    const subject = 'msg.1.dev_a.17'
    const first = await a.log('MESSAGES_1').append(subject, bytes('x'), { messageId: '17' })
    t.equal(await b.log('MESSAGES_1').append(subject, bytes('x'), { messageId: '17' }), first)
    t.equal((await a.log('MESSAGES_1').state()).messages, 1)
  })

  t.test('delete tells whether the record was there; only that record is gone', async (t) => {
    const log = (await open(t)).a.log(LOG)
    const first = await log.append(SUBJECT, bytes('1'))
    const second = await log.append(SUBJECT, bytes('2'))
    t.equal(await log.delete(first), true)
    t.equal(await log.delete(first), false)
    t.equal(await log.delete(999), false)
    t.equal(await log.at(first), null)
    for (const sequence of [first, 999]) t.equal(await log.at(sequence, { authoritative: true }), null)
    t.equal(text((await log.at(second, { authoritative: true }))?.body), '2')
    t.equal((await log.last(SUBJECT))?.sequence, second)
    t.match(await codeOf(log.append(SUBJECT, bytes('3'), { expectedLastSubjectSequence: 0 })), { lastSequence: second })
  })

  t.test('when the newest was deleted, older records can still be found by next', async (t) => {
    const log = (await open(t)).a.log(LOG)
    const first = await log.append(SUBJECT, bytes('1'))
    const second = await log.append(SUBJECT, bytes('2'))
    await log.delete(second)
    // What `last` and compare-and-set say now differs between versions of the server: see Log.delete. They agree.
    const last = (await log.last(SUBJECT, { authoritative: true }))?.sequence ?? 0
    t.ok(last === 0 || last === first)
    t.equal((await log.last(SUBJECT))?.sequence ?? 0, last)
    t.equal((await codeOf(log.append(SUBJECT, bytes('x'), { expectedLastSubjectSequence: 999 }))).lastSequence, last)
    t.equal((await log.next(SUBJECT, 1))?.sequence, first)
    // The sequence that the error names lets the next append through, and makes `last` right again.
    const third = await log.append(SUBJECT, bytes('3'), { expectedLastSubjectSequence: last })
    t.equal((await log.last(SUBJECT))?.sequence, third)
    t.equal((await log.at(first))?.sequence, first)
  })

  t.test('when all of a subject were deleted, it counts from 0', async (t) => {
    const log = (await open(t)).a.log(LOG)
    await log.append(OTHER, bytes('x'))
    for (const body of ['1', '2']) await log.append(SUBJECT, bytes(body))
    await log.delete(2)
    await log.delete(3)
    t.equal(await log.last(SUBJECT), null)
    t.equal(await log.append(SUBJECT, bytes('3'), { expectedLastSubjectSequence: 0 }), 4)
  })

  t.test('purge takes what matches, up to a sequence', async (t) => {
    const log = (await open(t)).a.log('EXPIRY')
    for (const subject of ['expiry.5.1', 'expiry.5.2', 'expiry.6.1']) await log.append(subject, bytes(''))
    await log.purge('expiry.5.*', 1)
    t.match(await log.state(), { messages: 3 }, 'nothing stands before the first')
    await log.purge('expiry.5.*', 2)
    t.equal((await log.next('expiry.>', 1))?.subject, 'expiry.5.2', 'only what stands before that sequence')
    await log.purge('expiry.5.*', 4)
    t.equal((await log.next('expiry.>', 1))?.subject, 'expiry.6.1')
    t.match(await log.state(), { messages: 1, firstSequence: 3, lastSequence: 3 })
  })

  t.test('a full stream refuses and keeps what it has', async (t) => {
    const log = (await open(t)).a.log('DEAD_LETTERS')
    const full = (await open(t)).a.log('SCHEDULE')
    const piece = new Uint8Array(900_000)
    let error = null
    for (let i = 0; i < 80 && !error; i++) {
      error = await full.append('schedule.1.2', piece).then(
        () => null,
        (cause: unknown) => cause,
      )
    }
    t.match(error, { code: 'full' })
    t.equal((await full.at(1))?.sequence, 1)
    for (let i = 0; i < 20; i++) await log.append('push.dead.acme', piece)
    t.equal(await log.at(1), null, 'dead letters give way')
  })

  t.test('a stream of so many records refuses the next one, and those that are too long', async (t) => {
    const log = (await open(t)).a.log('INGRESS')
    t.equal((await codeOf(log.append('push.send.acme', new Uint8Array(40_000)))).code, 'unavailable')
    let error = null
    for (let i = 0; i < 300 && !error; i++) {
      error = await log.append('push.send.acme', bytes('m')).then(
        () => null,
        (cause: unknown) => cause,
      )
    }
    t.match(error, { code: 'full' })
    t.match(await log.state(), { firstSequence: 1, messages: 252 }, 'as many as 8 MiB have room for')
    t.equal(await log.delete(1), true)
    t.equal(await log.append('push.send.acme', bytes('m')), 253)
  })

  t.test('a stream that is not there, and a subject of no stream, are unavailable', async (t) => {
    const { a, mayTimeOut } = await open(t)
    // A direct get of an unknown stream is heard by nobody in particular, so a real one may also time out.
    const { code } = await codeOf(a.log('QUEUE_77').last(SUBJECT, { authoritative: true }))
    t.ok(code === 'unavailable' || (mayTimeOut && code === 'timeout'), code)
    t.equal((await codeOf(a.log(LOG).append('queued.77', bytes('')))).code, 'unavailable')
  })

  t.test('what was acknowledged is there after a kill -9 of the server', async (t) => {
    const { a, restart } = await open(t)
    const log = a.log(LOG)
    await Promise.all(Array.from({ length: 50 }, (_, i) => log.append(`queued.1.dev_${i}`, bytes(`${i}`))))
    const before = await log.state()
    await restart(true)
    t.same(await log.state(), before)
    t.equal(text((await log.last('queued.1.dev_49', { authoritative: true }))?.body), '49')
    t.equal(await log.append(SUBJECT, bytes(''), { expectedLastSubjectSequence: 0 }), 51)
  })
}
