/** `borealis frame <hex>`: explains the bytes of a device connection, or where and why they are invalid. */
import { text } from 'node:stream/consumers'
import { Command, Option } from 'commander'
import { type Explanation, explain, renderRows } from '../../protocol/explain.js'
import type { Sender } from '../../protocol/frame.js'
import { frameToJson, fromHex } from '../../protocol/json-form.js'
import { CommandError } from './context.js'

export interface FrameIo {
  read(): Promise<string>
  write(text: string): void
}

const standardIo: FrameIo = {
  read: () => text(process.stdin),
  write: (out) => {
    process.stdout.write(out)
  },
}

/** Exit code 0: complete, valid frames. 1: the frames are invalid, and the output says where. 2: the input is not hex. */
export function frameCommand(io: FrameIo = standardIo): Command {
  return new Command('frame')
    .description('explain the bytes of one message of a device connection (protocol/PROTOCOL.md)')
    .argument('<hex...>', 'bytes in hex; spaces, commas, colons and 0x are ignored; - reads standard input')
    .addOption(
      new Option('--from <sender>', 'sender of the bytes; by default, the first known frame decides').choices([
        'device',
        'server',
      ]),
    )
    .option('--json', 'print one JSON object')
    .action(async (words: string[], options: { from?: Sender; json?: boolean }) => {
      const given = words.length === 1 && words[0] === '-' ? await io.read() : words.join(' ')
      const bytes = fromHex(given)
      if (bytes === null) throw new CommandError('the input is not a whole number of bytes in hex', 2)
      const explanation = explain(bytes, options.from ? { from: options.from } : {})
      io.write(options.json ? asJson(explanation) : asText(explanation))
      if (explanation.fault) process.exitCode = 1
    })
}

function asText({ from, rows, frames, fault }: Explanation): string {
  const decoded = frames.map((frame) => `${JSON.stringify(frameToJson(frame))}\n`).join('')
  const verdict = fault
    ? `invalid at ${fault.offset.toString(16).padStart(4, '0')}: ${fault.code}: ${fault.detail}\n`
    : `${frames.length} frame${frames.length === 1 ? '' : 's'} from ${from}\n`
  return `${renderRows(rows)}\n\n${decoded}${verdict}`
}

function asJson({ from, rows, frames, fault }: Explanation): string {
  return `${JSON.stringify({ from, frames: frames.map(frameToJson), fault, rows }, null, 2)}\n`
}
