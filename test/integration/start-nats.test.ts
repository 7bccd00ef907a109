/** `borealis start` starts its nats-server again each time that it ends. */
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { DataFolder } from '../../src/cli/start/folder.js'
import { startNats, stopNats } from '../../src/cli/start/nats.js'
import { readConfig } from '../../src/config/config.js'
import { findNatsServer } from '../../src/nats/server/server-process.js'

t.test('a nats-server that is killed while it starts again is started once more', async (t) => {
  const path = mkdtempSync(join(tmpdir(), 'borealis-start-nats-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  const [program, doomed] = [join(path, 'nats-server'), join(path, 'doomed')]
  writeFileSync(program, `#!/bin/sh\n[ -e ${doomed} ] && rm ${doomed} && kill -9 $$\nexec ${findNatsServer()} "$@"\n`)
  chmodSync(program, 0o755)
  const before = process.env.NATS_SERVER_BIN
  process.env.NATS_SERVER_BIN = program
  t.teardown(() => {
    if (before === undefined) delete process.env.NATS_SERVER_BIN
    else process.env.NATS_SERVER_BIN = before
  })
  const notices: string[] = []
  let onRestarted: () => void = () => undefined
  const restarted = new Promise<void>((resolve) => {
    onRestarted = resolve
  })
  const nats = await startNats(readConfig({ environment: {} }), DataFolder.claim(join(path, 'data')), 0, (text) => {
    notices.push(text)
    if (text === 'nats-server is back') onRestarted()
  })
  t.teardown(() => stopNats(nats))
  writeFileSync(doomed, '')
  process.kill(nats.server?.pid ?? 0, 'SIGKILL')
  await restarted
  t.notOk(existsSync(doomed), 'the first start after the kill was killed too')
  t.match(notices, [/starting it again/, /ended with code null/, /starting it again/, /is back/])
})
