import fc from 'fast-check'
import t from 'tap'
import { explain, renderRows } from '../../protocol/explain.js'
import type { Sender } from '../../protocol/frame.js'
import { frameToJson, fromHex } from '../../protocol/json-form.js'
import { frameCommand } from '../../src/cli/frame.js'
import { allVectors, bytesOf, decode, hexOf, readVectors } from './support.js'

t.test('every byte of every vector is in exactly one row, and frames and fault are the decoder’s', async (t) => {
  for (const { name, from, hex } of allVectors) {
    const { rows, frames, fault } = explain(bytesOf(hex), { from })
    t.equal(rows.map((row) => row.hex).join(''), hex, name)
    const actual = { frames: frames.map(frameToJson), error: fault?.code ?? null, offset: fault?.offset ?? 0 }
    t.strictSame(actual, decode(bytesOf(hex), from), name)
  }
})

t.test('any bytes are explained without an exception', async (t) => {
  const sender = fc.option(fc.constantFrom<Sender>('device', 'server'), { nil: undefined })
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), sender, (bytes, from) => {
      const { rows } = explain(bytes, from ? { from } : {})
      const inOrder = rows.every((row, i) => row.offset === rows.slice(0, i).reduce((n, r) => n + r.hex.length / 2, 0))
      return inOrder && rows.map((row) => row.hex).join('') === hexOf(bytes)
    }),
    { numRuns: 2_000 },
  )
  t.pass('every property held')
})

t.test('the first known frame tells the sender', async (t) => {
  for (const { name, from, hex, frames } of [...readVectors('device'), ...readVectors('server')]) {
    t.equal(explain(bytesOf(hex)).from, from, name)
    t.strictSame(explain(bytesOf(hex)).frames.map(frameToJson), frames, name)
  }
})

t.test('explained bytes print as a table of offset, bytes and meaning', async (t) => {
  const bytes = bytesOf('0e820901000000000000002002280510ff')
  t.equal(
    renderRows(explain(bytes).rows),
    [
      '0000  0e                        length: 14 bytes follow',
      '0001  82                        type NOTIFY',
      '0002  09 01 00 00 00 00 00 ..     id (1) = 1',
      '000b  20 02                       priority (4) = 2 (low)',
      '000d  28 05                       skipped: unknown field 5 = 5',
      '000f  10 ff                     unreadable: a frame has 16 bytes, but the message ends after 1',
    ].join('\n'),
    'a field whose number is known with another wire type is unknown',
  )
})

/** The command as the shell runs it: what it writes and its exit code. */
async function run(words: string[], input = '') {
  let out = ''
  const before = process.exitCode
  process.exitCode = 0
  const io = {
    read: async () => input,
    write: (text: string) => {
      out += text
    },
  }
  try {
    await frameCommand(io)
      .exitOverride()
      .configureOutput({ writeErr: () => undefined })
      .parseAsync(words, { from: 'user' })
    return { out, code: process.exitCode }
  } finally {
    process.exitCode = before
  }
}

t.test('the command "borealis frame" explains bytes, and ends with 1 where the decoder refuses them', async (t) => {
  const ping = await run(['0107'])
  t.match(ping.out, /type PING\n\n\{"type":"PING"\}\n1 frame from device\n$/)
  t.equal(ping.code, 0)
  for (const words of [['0x01', '0x07'], ['01 07'], ['01:07'], ['01,', '07'], ['0X0107']]) {
    t.strictSame(await run(words), ping, words.join('|'))
  }
  t.strictSame(await run(['-'], '0x01 \r\n 07\n'), ping, 'standard input')

  const json = await run(['--json', '0107 0108'])
  t.match(JSON.parse(json.out), { from: 'device', frames: [{ type: 'PING' }, { type: 'BYE' }], fault: null })

  const wrongWay = await run(['--from', 'server', '0107'])
  t.match(wrongWay.out, /invalid at 0000: unexpected_frame: a server may not send PING\n$/)
  t.equal(wrongWay.code, 1)
  const cut = await run(['0107', '0907', '--json'])
  t.match(JSON.parse(cut.out), { frames: [{ type: 'PING' }], fault: { code: 'protocol_error', offset: 2 } })
  t.equal(cut.code, 1)
  const empty = await run([''])
  t.match(empty.out, /invalid at 0000: protocol_error: the message has no frame/)

  for (const wrong of ['1', '0g', 'hello', '01 7']) {
    await t.rejects(run([wrong]), {
      name: 'CommandError',
      exitCode: 2,
      message: 'the input is not a whole number of bytes in hex',
    })
  }
  await t.rejects(run(['--from', 'nobody', '0107']), { code: 'commander.invalidArgument' })
})

t.test('hex is read with or without separators, and refused where it is not whole bytes', async (t) => {
  fc.assert(fc.property(fc.uint8Array(), (bytes) => hexOf(fromHex(hexOf(bytes)) ?? [1]) === hexOf(bytes)))
  t.equal(fromHex('abc'), null)
  t.strictSame(fromHex(''), new Uint8Array())
})
