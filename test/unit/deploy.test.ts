/** deploy/ holds what it says: names that exist, in files that their programs take. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { metricsOf } from '../../src/cli/metrics-reference.js'
import { v8Flags } from '../../src/cli/v8-flags.js'
import { settings } from '../../src/config/config.js'
import { findProgram, needs } from '../support/programs.js'

const variables = new Set(settings.map(({ variable }) => variable))

t.test('the dashboard asks for metrics that there are, with labels that they have', async (t) => {
  const known = new Map([...metricsOf('transport'), ...metricsOf('core')].map((metric) => [metric.name, metric]))
  const { panels } = JSON.parse(readFileSync('deploy/grafana-dashboard.json', 'utf8')) as {
    panels: { title: string; targets: { expr: string }[] }[]
  }
  const exprs = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))
  t.ok(exprs.length > 15)
  for (const expr of exprs) {
    const names = expr.match(/borealis_\w+/g) ?? []
    t.ok(names.length > 0, expr)
    for (const name of names) {
      const metric = known.get(name)
      t.ok(metric, name)
      t.equal(metric?.type === 'counter', expr.includes('rate('), `${expr}: counters are looked at as rates`)
      const label = /by \((\w+)\)/.exec(expr)?.[1]
      if (label && label !== 'part') t.ok(metric?.labels.includes(label), `${name} by ${label}`)
    }
  }
})

t.test('compose and units name settings that there are', async (t) => {
  const compose = parse(readFileSync('deploy/compose.yaml', 'utf8')) as {
    services: Record<string, { environment?: Record<string, string>; command: string[] }>
  }
  t.same(Object.keys(compose.services), ['nats', 'core', 'transport'])
  const units = readdirSync('deploy/systemd').map((name) => readFileSync(join('deploy/systemd', name), 'utf8'))
  const named = [
    ...Object.values(compose.services).flatMap(({ environment = {} }) => Object.keys(environment)),
    ...units.flatMap((unit) => unit.match(/BOREALIS_[A-Z_]+/g) ?? []),
  ]
  t.ok(named.length > 8)
  for (const name of named) t.ok(variables.has(name) || name === 'NODE_OPTIONS', name)
  // A core that is no child of `npm start` is told the same.
  const [flag] = v8Flags('core', '')
  t.equal(compose.services.core?.environment?.NODE_OPTIONS, flag)
  t.match(readFileSync('deploy/systemd/borealis-core.service', 'utf8'), `\nEnvironment=NODE_OPTIONS=${flag}\n`)
})

t.test('systemd takes the units', needs('systemd-analyze'), async (t) => {
  const folder = t.testdir()
  for (const name of readdirSync('deploy/systemd')) {
    const path = join(folder, name)
    // The user of the unit need not be on this machine.
    writeFileSync(path, readFileSync(join('deploy/systemd', name), 'utf8').replace('User=borealis\n', ''))
    const said = execFileSync(findProgram('systemd-analyze') ?? '', ['verify', path], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    t.equal(said, '', name)
  }
})

t.test('systemd is told through systemd-notify, where it asks', async (t) => {
  const folder = t.testdir()
  const bin = join(folder, 'bin')
  mkdirSync(bin)
  const said = join(folder, 'said')
  writeFileSync(join(bin, 'systemd-notify'), `#!/bin/sh\necho "$@" >> ${said}\n`)
  chmodSync(join(bin, 'systemd-notify'), 0o755)
  const program = `
    import { notifySystemd, watchdog } from ${JSON.stringify(new URL('../../src/cli/systemd.js', import.meta.url).href)}
    const log = { warn: (error) => console.log(error) }
    await notifySystemd(log, 'READY=1')
    const end = watchdog(log)
    setTimeout(() => { end() }, 1_000)`
  const run = async (environment: Record<string, string>) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      env: { ...process.env, PATH: `${bin}:${process.env.PATH}`, ...environment },
    })
    const [code] = (await once(child, 'exit')) as [number]
    t.equal(code, 0)
    return child.pid
  }
  await run({ NOTIFY_SOCKET: '' })
  t.notOk(existsSync(said), 'nobody asked')
  const pid = await run({ NOTIFY_SOCKET: '/run/none', WATCHDOG_USEC: '200000' })
  const lines = readFileSync(said, 'utf8').trim().split('\n')
  t.equal(lines[0], `--pid=${pid} READY=1`)
  t.equal(lines[1], `--pid=${pid} WATCHDOG=1`)
})
