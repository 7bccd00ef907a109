import { bytes, type Contract, codeOf, text } from './suite.js'

const SUBJECT = 'queued.1.dev_a'
const OTHER = 'queued.1.dev_b'
const LOG = 'QUEUE_1'

export const logContract: Contract = (t, open) => {
  t.test('append() resolves with the sequence of the record, and each read method returns the record', async (t) => {
    const { a, b } = await open(t)
    const sequence = await a.log(LOG).append(SUBJECT, bytes('one'), { headers: { Kind: 'k' } })
    await a.log(LOG).append(OTHER, bytes('two'))
    const log = b.log(LOG)
    const reads = {
      last: log.last(SUBJECT),
      'last, authoritative': log.last(SUBJECT, { authoritative: true }),
      at: log.at(sequence),
      next: log.next('queued.1.*', 0),
      'at, authoritative': log.at(sequence, { authoritative: true }),
      'next, authoritative': log.next('queued.1.*', 0, { authoritative: true }),
    }
    for (const [name, read] of Object.entries(reads)) {
      const record = await read
      t.match(record, { subject: SUBJECT, sequence, headers: { Kind: 'k' } }, name)
      t.equal(text(record?.body), 'one', name)
      t.ok(Math.abs((record?.storedAtMs ?? 0) - ((await log.at(sequence))?.storedAtMs ?? 1)) <= 1, name)
    }
    t.equal((await log.next('queued.1.*', sequence + 1))?.subject, OTHER)
  })

  t.test('each read method returns null for an absent record', async (t) => {
    const log = (await open(t)).a.log(LOG)
    t.equal(await log.last(SUBJECT), null)
    t.equal(await log.last(SUBJECT, { authoritative: true }), null)
    t.equal(await log.at(7), null)
    t.equal(await log.at(7, { authoritative: true }), null)
    t.equal(await log.next(SUBJECT, 1), null)
    t.equal(await log.next(SUBJECT, 1, { authoritative: true }), null)
  })

  t.test('a record without headers of the application reads with null, without those of the store', async (t) => {
    const log = (await open(t)).a.log('BROADCAST')
    await log.append('broadcast.p.app.x', bytes(''), { messageId: 'm1', expectedLastSubjectSequence: 0 })
    const record = await log.last('broadcast.p.app.x')
    t.equal(record?.headers, null)
    t.equal(record?.body.length, 0)
  })

  t.test('of two appends with the same expected sequence one succeeds', async (t) => {
    const { a, b } = await open(t)
    const results = await Promise.allSettled([
      a.log(LOG).append(SUBJECT, bytes('a'), { expectedLastSubjectSequence: 0 }),
      b.log(LOG).append(SUBJECT, bytes('b'), { expectedLastSubjectSequence: 0 }),
    ])
    t.same(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
  })

  t.test('an append with a wrong expected sequence rejects with the last sequence of its subject', async (t) => {
    const { a } = await open(t)
    await a.log(LOG).append(SUBJECT, bytes('a'), { expectedLastSubjectSequence: 0 })
    await a.log(LOG).append(OTHER, bytes('on another subject'))
    const last = await a.log(LOG).append(SUBJECT, bytes('c'), { expectedLastSubjectSequence: 1 })
    const error = await codeOf(a.log(LOG).append(SUBJECT, bytes('d'), { expectedLastSubjectSequence: 1 }))
    t.match(error, { code: 'wrong_last_sequence', lastSequence: last })
  })

  t.test('an append with a repeated message id stores nothing, and resolves with the first sequence', async (t) => {
    const { a, b } = await open(t)
    const subject = 'msg.1.dev_a.17'
    const first = await a.log('MESSAGES_1').append(subject, bytes('x'), { messageId: '17' })
    t.equal(await b.log('MESSAGES_1').append(subject, bytes('x'), { messageId: '17' }), first)
    t.equal((await a.log('MESSAGES_1').state()).messages, 1)
  })

  t.test('delete() removes one record, and resolves with true only if the record existed', async (t) => {
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

  t.test(
    'after the newest record is deleted, next() finds older ones and append() names the sequence to expect',
    async (t) => {
      const log = (await open(t)).a.log(LOG)
      const first = await log.append(SUBJECT, bytes('1'))
      const second = await log.append(SUBJECT, bytes('2'))
      await log.delete(second)
      // The answer of last() and of compare-and-set differs between server versions (see Log.delete), but both agree.
      const last = (await log.last(SUBJECT, { authoritative: true }))?.sequence ?? 0
      t.ok(last === 0 || last === first)
      t.equal((await log.last(SUBJECT))?.sequence ?? 0, last)
      t.equal((await codeOf(log.append(SUBJECT, bytes('x'), { expectedLastSubjectSequence: 999 }))).lastSequence, last)
      t.equal((await log.next(SUBJECT, 1))?.sequence, first)
      // An append with the sequence of the error succeeds, and last() is right again.
      const third = await log.append(SUBJECT, bytes('3'), { expectedLastSubjectSequence: last })
      t.equal((await log.last(SUBJECT))?.sequence, third)
      t.equal((await log.at(first))?.sequence, first)
    },
  )

  t.test('after all records of a subject are deleted, its expected sequence is 0', async (t) => {
    const log = (await open(t)).a.log(LOG)
    await log.append(OTHER, bytes('x'))
    for (const body of ['1', '2']) await log.append(SUBJECT, bytes(body))
    await log.delete(2)
    await log.delete(3)
    t.equal(await log.last(SUBJECT), null)
    t.equal(await log.append(SUBJECT, bytes('3'), { expectedLastSubjectSequence: 0 }), 4)
  })

  t.test('purge() removes the records of a filter that are older than a sequence', async (t) => {
    const log = (await open(t)).a.log('EXPIRY')
    for (const subject of ['expiry.5.1', 'expiry.5.2', 'expiry.6.1']) await log.append(subject, bytes(''))
    await log.purge('expiry.5.*', 1)
    t.match(await log.state(), { messages: 3 }, 'no record is older than sequence 1')
    await log.purge('expiry.5.*', 2)
    t.equal((await log.next('expiry.>', 1))?.subject, 'expiry.5.2', 'only the record before sequence 2 is removed')
    await log.purge('expiry.5.*', 4)
    t.equal((await log.next('expiry.>', 1))?.subject, 'expiry.6.1')
    t.match(await log.state(), { messages: 1, firstSequence: 3, lastSequence: 3 })
  })

  t.test('a full stream refuses appends and keeps its records', async (t) => {
    const schedule = (await open(t)).a.log('SCHEDULE')
    const body = new Uint8Array(900_000)
    let error = null
    for (let i = 0; i < 80 && !error; i++) {
      error = await schedule.append('schedule.1.2', body).then(
        () => null,
        (cause: unknown) => cause,
      )
    }
    t.match(error, { code: 'full' })
    t.equal((await schedule.at(1))?.sequence, 1)
  })

  t.test('DEAD_LETTERS at its limit removes its oldest records', async (t) => {
    const deadLetters = (await open(t)).a.log('DEAD_LETTERS')
    for (let i = 0; i < 20; i++) await deadLetters.append('push.dead.acme', new Uint8Array(900_000))
    t.equal(await deadLetters.at(1), null)
  })

  t.test('INGRESS refuses a record that is too long', async (t) => {
    const log = (await open(t)).a.log('INGRESS')
    t.equal((await codeOf(log.append('push.send.acme', new Uint8Array(40_000)))).code, 'unavailable')
  })

  t.test('INGRESS refuses records beyond its number, until one is deleted', async (t) => {
    const log = (await open(t)).a.log('INGRESS')
    let error = null
    for (let i = 0; i < 300 && !error; i++) {
      error = await log.append('push.send.acme', bytes('m')).then(
        () => null,
        (cause: unknown) => cause,
      )
    }
    t.match(error, { code: 'full' })
    t.match(
      await log.state(),
      { firstSequence: 1, messages: 252 },
      'the number of the longest records that fit into 8 MiB',
    )
    t.equal(await log.delete(1), true)
    t.equal(await log.append('push.send.acme', bytes('m')), 253)
  })

  t.test('a read of an unknown stream rejects as unavailable', async (t) => {
    const { a, mayTimeOut } = await open(t)
    // No server listens for direct gets of an unknown stream, so a real one may also time out.
    const { code } = await codeOf(a.log('QUEUE_77').last(SUBJECT, { authoritative: true }))
    t.ok(code === 'unavailable' || (mayTimeOut && code === 'timeout'), code)
  })

  t.test('an append to a subject of no stream rejects as unavailable', async (t) => {
    const { a } = await open(t)
    t.equal((await codeOf(a.log(LOG).append('queued.77', bytes('')))).code, 'unavailable')
  })

  t.test('after a kill -9 of the server each acknowledged append is still stored', async (t) => {
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
