/** Compares PROTOCOL.md with the code: each table, each limit, the diagram of states, each frame in hex. */
import { execFileSync } from 'node:child_process'
import protobuf from 'protobufjs'
import t from 'tap'
import { Value } from 'typebox/value'
import { Close } from '../../protocol/close-codes.js'
import { encodeFrames } from '../../protocol/encode.js'
import { DeviceRequestErrors } from '../../protocol/errors.js'
import { explain } from '../../protocol/explain.js'
import { DEVICE_PATH, FrameType, PROTOCOL_VERSION, type Sender, senderOfType } from '../../protocol/frame.js'
import { type Frame, GAP_REASONS } from '../../protocol/frame-types.js'
import { fromHex } from '../../protocol/json-form.js'
import { type Bound, DeviceTimes, FieldLimits, ServerFloors, WireLimits } from '../../protocol/limits.js'
import { type BodyName, bodies, type FieldShape } from '../../protocol/schema.js'
import { States, Transitions } from '../../protocol/states.js'
import { MessageLimits } from '../../src/core/domain/limits.js'
import { REGISTRATION_ID_CHARS_MAX } from '../../src/core/domain/registration-id.js'
import { DeviceSettings } from '../../src/device/settings.js'
import { DEVICE_TOKEN_CHARS_MAX } from '../../src/device-token.js'
import { APPLICATION_ID, PROJECT_ID, TOPIC_NAME, USER_CHARACTERS_MAX } from '../../src/store/tenants.js'
import { TransportSettings } from '../../src/transport/settings.js'
import { sessionBlock } from './session-block.js'
import { readSessions } from './sessions.js'
import { readText, root } from './support.js'

const document = readText('protocol/PROTOCOL.md')

/** The cells of each table row of a section, without headings, rulers and code marks. */
function rowsOf(heading: string): string[][] {
  const section = document.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? ''
  const rows = section.split('\n').filter((line) => line.startsWith('| '))
  const cells = rows.map((line) =>
    line
      .slice(2, -2)
      .split(' | ')
      .map((cell) => cell.replaceAll('`', '').trim()),
  )
  return cells.filter((row, i) => !/^-+$/.test(row[0] ?? '') && !/^\| -+/.test(rows[i + 1] ?? ''))
}

t.test('the table of frame types equals FrameType', async (t) => {
  const expected = Object.entries(FrameType).map(([name, type]) => [hex(type), name, senderOfType(type)])
  t.strictSame(
    rowsOf('Frame types').map((row) => row.slice(0, 3)),
    expected,
  )
})

t.test('the table of close codes equals Close, where each code has one name', async (t) => {
  const expected = Object.entries(Close).map(([name, c]) => [String(c.code), name, c.next, c.meaning])
  t.strictSame(rowsOf('Close codes'), expected)
  t.equal(new Set(Object.values(Close).map(({ code }) => code)).size, expected.length, 'each code has one name')
})

t.test('the table of errors of requests equals DeviceRequestErrors', async (t) => {
  const expected = Object.entries(DeviceRequestErrors).map(([code, { next, meaning }]) => [code, next, plain(meaning)])
  t.strictSame(
    rowsOf('ERROR').filter(([code = '']) => code in DeviceRequestErrors),
    expected,
  )
})

t.test('the tables of limits, the path and the version equal those of the code', async (t) => {
  const cellsOf = ({ value, unit, meaning }: Bound) => [
    `${value.toLocaleString('en-US')} ${unit}`.trim(),
    plain(meaning),
  ]
  const expected = [WireLimits, ServerFloors, DeviceTimes, FieldLimits].flatMap((table) =>
    Object.entries(table).map(([name, bound]) => [name, ...cellsOf(bound)]),
  )
  t.strictSame(rowsOf('Limits'), expected)
  t.match(document, DEVICE_PATH)
  t.match(document, `\`version\` in HELLO is ${PROTOCOL_VERSION} `)
})

t.test(
  'the defaults of the device library are the recommended times and at least the limits of messages',
  async (t) => {
    const device = Value.Default(DeviceSettings, {}) as DeviceSettings
    t.strictSame(
      {
        CONNECT_TIMEOUT: device.connectTimeoutMs,
        WELCOME_TIMEOUT: device.welcomeTimeoutMs,
        PONG_TIMEOUT: device.pongTimeoutMs,
        REQUEST_TIMEOUT: device.requestTimeoutMs,
        REQUEST_SPACING: device.requestSpacingMs,
        RECONNECT_BASE: device.reconnectBaseMs,
        RECONNECT_CAP: device.reconnectCapMs,
        STABLE: device.stableMs,
        HINT_MAX: device.retryAfterMsMax,
        SEEN_KEEP: device.seenKeepMs,
        SEEN_IDS: device.seenMax,
      },
      // Enrolment reads its time from the table itself.
      Object.fromEntries(
        Object.entries(DeviceTimes)
          .filter(([name]) => name !== 'ENROL_TIMEOUT')
          .map(([name, { value }]) => [name, value]),
      ),
    )
    t.ok(device.dataDepthMax >= WireLimits.DATA_DEPTH_MAX.value)
    t.ok(device.webSocketBytesMax >= WireLimits.SERVER_MESSAGE_BYTES_MAX.value)
  },
)

t.test('the defaults of the transport grant at least the promised limits', async (t) => {
  const transport = Value.Default(TransportSettings, {}) as TransportSettings
  t.ok(transport.helloTimeoutMs >= ServerFloors.HELLO_TIMEOUT.value)
  t.ok(transport.framesPerSecondMax >= ServerFloors.FRAMES_PER_SECOND.value)
  t.ok(transport.requestsInFlightMax >= ServerFloors.REQUESTS_IN_FLIGHT.value)
})

t.test('the table and the diagram of states equal States and Transitions', async (t) => {
  const list = (names: readonly string[]) => names.join(', ') || 'nothing'
  const expected = Object.entries(States).map(([name, { device, server }]) => [name, list(device), list(server)])
  t.strictSame(
    rowsOf('States').map(([name, , device, server]) => [name, device, server]),
    expected,
  )
  const drawn = [...document.matchAll(/^ {4}(\w+) --> (\w+): (\w+)$/gm)].map(([, from, to, on]) => ({ from, on, to }))
  t.strictSame(drawn, Transitions)
})

t.test('each frame type can be sent in at least one state', async (t) => {
  const sent = Object.values(States).flatMap(({ device, server }) => [...device, ...server])
  t.strictSame([...new Set(sent)].sort(), Object.keys(FrameType).sort())
})

t.test('the tables of fields equal the schema', async (t) => {
  for (const [heading, body] of [
    ['HELLO', 'HELLO'],
    ['WELCOME', 'WELCOME'],
    ['Notifications for one device', 'NOTIFY'],
    ['Leaving', 'GOAWAY'],
    ['ERROR', 'ERROR'],
  ] as const) {
    const documented = rowsOf(heading)
      .filter((row) => /^\d+(, \d+)*$/.test(row[1] ?? ''))
      .flatMap(([names = '', numbers = '']) => {
        const fieldNumbers = numbers.split(', ')
        return names.split(', ').map((name, i) => [fieldNumbers[i] ?? '', name])
      })
    t.strictSame(
      documented,
      Object.entries(bodies[body]).map(([number, { name }]) => [number, name]),
      body,
    )
  }
})

t.test('the table of the reasons of GAP equals GAP_REASONS', async (t) => {
  t.strictSame(
    rowsOf('GAP')
      .map((row) => row.slice(0, 2))
      .filter(([, number = '']) => /^\d+$/.test(number)),
    GAP_REASONS.map((name, i) => [name.toUpperCase(), String(i)]),
  )
})

t.test('each frame in hex decodes, has the explanation of explain(), and equals the encoded frame', async (t) => {
  const blocks = [...document.matchAll(/^```frame (device|server)\n([^`]*)^```/gm)]
  const seen = new Set<string>()
  for (const [, from, block = ''] of blocks) {
    const lines = block.trimEnd().split('\n')
    const rows = lines.map((line) => /^((?:[0-9a-f]{2} ?)+)\s*(.*)$/.exec(line) ?? [])
    const bytes = fromHex(rows.map(([, digits]) => digits).join('')) ?? new Uint8Array()
    const explained = explain(bytes, { from: from as Sender })
    t.equal(explained.fault, null, block)
    t.strictSame(
      rows.map((row) => row[2] ?? '').filter(Boolean),
      explained.rows.map(({ meaning }) => meaning),
    )
    t.strictSame(encodeFrames(explained.frames as Frame[]), bytes)
    for (const frame of explained.frames) seen.add(frame.type)
  }
  const missing = Object.keys(FrameType).filter((name) => !seen.has(name))
  t.strictSame(missing, ['PONG'], 'each type has an example, except PONG, which differs from PING in its type only')
})

t.test('the first page shows the session "first push" of the vectors, ten frames with their bytes', async (t) => {
  const [first] = readSessions()
  const frames = first?.steps.flatMap((step) => ('close' in step ? [] : step.frames)) ?? []
  t.equal(frames.length, 10)
  const [shown] = /^```session\n[^`]*^```$/m.exec(document) ?? []
  t.equal(
    shown,
    first && sessionBlock(first),
    'PROTOCOL.md has the block that sessionBlock() in test/protocol/session-block.ts makes',
  )
  t.match(document, `has this session and ${inWords(readSessions().length - 1)} more`)
})

t.test(
  'the client loop in pseudocode names each server frame, and only existing frames, times and reasons',
  async (t) => {
    const [, loop = ''] = /^```pseudocode\n([^`]*)^```$/m.exec(document) ?? []
    const names = new Set(loop.match(/\b[A-Z][A-Z_]{2,}\b/g))
    const reasons = GAP_REASONS.map((reason) => reason.toUpperCase())
    const known = new Set([...Object.keys(FrameType), ...Object.keys(DeviceTimes), ...reasons])
    t.strictSame(
      [...names].filter((name) => !known.has(name)),
      [],
    )
    const fromServer = Object.entries(FrameType).filter(([, type]) => senderOfType(type) === 'server')
    const unnamed = fromServer.map(([name]) => name).filter((name) => !names.has(name))
    t.strictSame(unnamed, ['PONG'], 'the loop does nothing with a PONG')
  },
)

t.test('no line of prose is longer than 120 characters', async (t) => {
  const long = document.split('\n').filter((line) => line.length > 120 && !line.startsWith('|'))
  t.strictSame(long, [])
})

t.test('FieldLimits and WireLimits equal the limits that core and device tokens apply', async (t) => {
  const message = Value.Default(MessageLimits, {}) as MessageLimits
  const value = (name: keyof typeof FieldLimits) => FieldLimits[name].value
  t.equal(value('USER_CHARS_MAX'), USER_CHARACTERS_MAX)
  t.equal(value('REGISTRATION_ID_CHARS_MAX'), REGISTRATION_ID_CHARS_MAX)
  t.equal(value('COLLAPSE_KEY_CHARS_MAX'), message.collapseKeyCharactersMax)
  t.equal(value('TITLE_CHARS_MAX'), message.titleCharactersMax)
  t.equal(value('MESSAGE_CHARS_MAX'), message.messageCharactersMax)
  t.equal(value('DATA_BYTES_MAX'), message.dataBytesMax)
  t.equal(WireLimits.DATA_DEPTH_MAX.value, message.dataDepthMax)
  t.equal(WireLimits.TOKEN_CHARS_MAX.value, DEVICE_TOKEN_CHARS_MAX)
  for (const [pattern, name] of [
    [PROJECT_ID, 'PROJECT_ID_CHARS_MAX'],
    [TOPIC_NAME, 'TOPIC_CHARS_MAX'],
  ] as const) {
    t.match('x'.repeat(value(name)), pattern)
    t.notMatch('x'.repeat(value(name) + 1), pattern)
  }
  t.match(`app_${'x'.repeat(value('APPLICATION_ID_CHARS') - 4)}`, APPLICATION_ID)
})

t.test('each link within the document leads to a heading', async (t) => {
  const anchors = new Set([...document.matchAll(/^##+ (.*)$/gm)].map(([, title = '']) => anchorOf(title)))
  for (const [, anchor = ''] of document.matchAll(/\]\(#([^)]*)\)/g)) t.ok(anchors.has(anchor), `#${anchor}`)
})

t.test('each section of PROTOCOL.md that the code names exists', async (t) => {
  const files = execFileSync('git', ['ls-files', 'src', 'protocol', 'test', 'bench'], { cwd: root, encoding: 'utf8' })
  const sources = files.split('\n').filter((file) => /\.(ts|py|proto)$/.test(file))
  const titles = new Set([...document.matchAll(/^##+ (.*)$/gm)].map(([, title]) => title))
  let references = 0
  for (const file of sources) {
    for (const [reference] of readText(file).matchAll(/PROTOCOL\.md,?(?: sections?)? "[^"]*"(?: and "[^"]*")*/g)) {
      for (const [, title = ''] of reference.matchAll(/"([^"]*)"/g)) {
        references++
        if (!titles.has(title)) t.fail(`${file}: ${reference}`)
      }
    }
  }
  t.ok(references > 20, `${references} references`)
})

t.test('the schema of frames equals borealis.proto', async (t) => {
  const { root } = protobuf.parse(readText('protocol/borealis.proto'), { keepCase: true })
  const inProto: Record<string, unknown> = {}
  for (const type of typesOf(root)) {
    inProto[type.name] = Object.fromEntries(type.fieldsArray.map((f) => [f.id, { name: f.name, type: protoType(f) }]))
  }
  const ours = Object.entries(bodies).map(([name, fields]) => [
    protoName(name as BodyName),
    Object.fromEntries(Object.entries(fields).map(([id, field]) => [id, { name: field.name, type: ourType(field) }])),
  ])
  t.strictSame(Object.fromEntries(ours), inProto)
  const enums = { Priority: bodies.NOTIFY[4], GapReason: bodies.GAP[2], GoawayReason: bodies.GOAWAY[1] }
  for (const [name, field] of Object.entries(enums)) {
    const values = field?.kind === 'enum' ? field.values : []
    const expected = Object.fromEntries(values.map((value, i) => [value.toUpperCase(), i]))
    t.strictSame({ ...root.lookupEnum(`borealis.v1.${name}`).values }, expected, name)
  }
})

function inWords(count: number): string {
  return (
    [
      'no',
      'one',
      'two',
      'three',
      'four',
      'five',
      'six',
      'seven',
      'eight',
      'nine',
      'ten',
      'eleven',
      'twelve',
      'thirteen',
    ][count] ?? ''
  )
}

/** Removes code marks, as rowsOf() does. */
function plain(text: string): string {
  return text.replaceAll('`', '')
}

function hex(type: number): string {
  return `0x${type.toString(16).padStart(2, '0')}`
}

function anchorOf(title: string): string {
  return title.toLowerCase().replaceAll(' ', '-')
}

function typesOf(root: protobuf.Root): protobuf.Type[] {
  const found = root.lookup('borealis.v1')
  return found instanceof protobuf.Namespace ? found.nestedArray.filter((n) => n instanceof protobuf.Type) : []
}

/** The name of a body in borealis.proto: Hello for HELLO, NotifyGroup for NOTIFY_GROUP. */
function protoName(name: BodyName): string {
  if (!(name in FrameType)) return name
  return name.toLowerCase().replace(/(^|_)([a-z])/g, (_match, _edge, letter: string) => letter.toUpperCase())
}

function protoType(field: protobuf.Field): string {
  return field.repeated ? `repeated ${field.type}` : field.type
}

function ourType(field: FieldShape): string {
  if (field.kind === 'ids') return 'repeated fixed64'
  if (field.kind === 'numbers') return 'repeated uint32'
  if (field.kind === 'message') return field.body
  if (field.kind !== 'enum') return field.kind
  return (
    { priority: 'Priority', reason: field.values[0] === 'shutdown' ? 'GoawayReason' : 'GapReason' }[field.name] ?? ''
  )
}
