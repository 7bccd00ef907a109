import fc from 'fast-check'
import t from 'tap'
import { explain, renderRows } from '../../protocol/explain.js'
import type { Sender } from '../../protocol/frame.js'
import { frameToJson, fromHex } from '../../protocol/json-form.js'
import { frameCommand } from '../../src/cli/frame.js'
import { allVectors, bytesOf, decode, hexOf, readVectors } from './support.js'

t.test('explain() puts each byte of a vector into one row, with the frames and the fault of the decoder', async (t) => {
  for (const { name, from, hex } of allVectors) {
    const { rows, frames, fault } = explain(bytesOf(hex), { from })
    t.equal(rows.map((row) => row.hex).join(''), hex, name)
    const actual = { frames: frames.map(frameToJson), error: fault?.code ?? null, offset: fault?.offset ?? 0 }
    t.strictSame(actual, decode(bytesOf(hex), from), name)
  }
})

t.test('explain() puts random bytes into rows without an exception', async (t) => {
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

t.test('explain() without a sender takes it from the first frame', async (t) => {
  for (const { name, from, hex, frames } of [...readVectors('device'), ...readVectors('server')]) {
    t.equal(explain(bytesOf(hex)).from, from, name)
    t.strictSame(explain(bytesOf(hex)).frames.map(frameToJson), frames, name)
  }
})

t.test('renderRows() prints a table of offset, bytes and meaning', async (t) => {
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
    'a known field number with another wire type is an unknown field',
  )
})

/** Runs `borealis frame` with these arguments. Returns its output and exit code. */
async function runFrameCommand(args: string[], input = '') {
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
      .parseAsync(args, { from: 'user' })
    return { out, code: process.exitCode }
  } finally {
    process.exitCode = before
  }
}

t.test(
  '"borealis frame" reads hex with any separator, from arguments or standard input, and ends with 0',
  async (t) => {
    const ping = await runFrameCommand(['0107'])
    t.match(ping.out, /type PING\n\n\{"type":"PING"\}\n1 frame from device\n$/)
    t.equal(ping.code, 0)
    for (const args of [['0x01', '0x07'], ['01 07'], ['01:07'], ['01,', '07'], ['0X0107']]) {
      t.strictSame(await runFrameCommand(args), ping, args.join('|'))
    }
    t.strictSame(await runFrameCommand(['-'], '0x01 \r\n 07\n'), ping, 'standard input')
  },
)

t.test('"borealis frame --json" prints sender, frames and fault', async (t) => {
  const json = await runFrameCommand(['--json', '0107 0108'])
  t.match(JSON.parse(json.out), { from: 'device', frames: [{ type: 'PING' }, { type: 'BYE' }], fault: null })
})

t.test('"borealis frame" prints the fault of bytes that the decoder refuses, and ends with 1', async (t) => {
  const wrongSender = await runFrameCommand(['--from', 'server', '0107'])
  t.match(wrongSender.out, /invalid at 0000: unexpected_frame: a server may not send PING\n$/)
  t.equal(wrongSender.code, 1)
  const cut = await runFrameCommand(['0107', '0907', '--json'])
  t.match(JSON.parse(cut.out), { frames: [{ type: 'PING' }], fault: { code: 'protocol_error', offset: 2 } })
  t.equal(cut.code, 1)
  const empty = await runFrameCommand([''])
  t.match(empty.out, /invalid at 0000: protocol_error: the message has no frame/)
})

t.test('"borealis frame" refuses input that is not hex with exit code 2, and an unknown sender', async (t) => {
  for (const wrong of ['1', '0g', 'hello', '01 7']) {
    await t.rejects(runFrameCommand([wrong]), {
      name: 'CommandError',
      exitCode: 2,
      message: 'the input is not a whole number of bytes in hex',
    })
  }
  await t.rejects(runFrameCommand(['--from', 'nobody', '0107']), { code: 'commander.invalidArgument' })
})

t.test('fromHex() reads the hex of any bytes, and returns null for half a byte', async (t) => {
  fc.assert(fc.property(fc.uint8Array(), (bytes) => hexOf(fromHex(hexOf(bytes)) ?? [1]) === hexOf(bytes)))
  t.equal(fromHex('abc'), null)
  t.strictSame(fromHex(''), new Uint8Array())
})
