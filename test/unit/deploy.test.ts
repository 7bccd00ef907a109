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

interface Rule {
  alert: string
  expr: string
  labels: { severity: string }
  annotations: { summary: string; runbook: string }
}

t.test('alert rules ask for metrics that there are, and each alert has its section', async (t) => {
  const known = new Map([...metricsOf('transport'), ...metricsOf('core')].map((metric) => [metric.name, metric]))
  const { groups } = parse(readFileSync('deploy/prometheus-rules.yaml', 'utf8')) as { groups: { rules: Rule[] }[] }
  const rules = groups.flatMap((group) => group.rules)
  t.ok(rules.length > 10)
  for (const { alert, expr, labels, annotations } of rules) {
    const names = expr.match(/borealis_\w+/g) ?? []
    t.ok(names.length > 0 || expr.startsWith('up{'), alert)
    for (const name of names) {
      const metric = known.get(name)
      t.ok(metric, `${alert}: ${name}`)
      t.equal(metric?.type === 'counter', name.endsWith('_total'))
      if (metric?.type === 'counter') t.match(expr, new RegExp(`(rate|increase)\\(${name}\\b`), `${alert}: a counter`)
    }
    for (const [, name = '', label = ''] of expr.matchAll(/(borealis_\w+)\{(\w+)/g)) {
      t.ok(known.get(name)?.labels.includes(label), `${alert}: ${name} has the label ${label}`)
    }
    t.match(labels.severity, /^(page|ticket)$/, alert)
    t.equal(annotations.runbook, `docs/operate/alerts.md#${alert.toLowerCase()}`)
    t.ok(annotations.summary, alert)
  }
  const page = readFileSync('docs/operate/alerts.md', 'utf8')
  const sections = [...page.matchAll(/^## (\w+)\n\n\*(Page|Ticket)\.\*/gm)].map(([, name, kind]) => [name, kind])
  const wanted = rules.map(({ alert, labels }) => [alert, labels.severity === 'page' ? 'Page' : 'Ticket'])
  t.same(sections, wanted, 'docs/operate/alerts.md has the same alerts in the same order')
})

t.test('Prometheus takes the alert rules', needs('promtool'), async (t) => {
  const said = execFileSync(findProgram('promtool') ?? '', ['check', 'rules', 'deploy/prometheus-rules.yaml'], {
    encoding: 'utf8',
  })
  t.match(said, /SUCCESS: \d+ rules found/)
})

t.test('an alert fires when it should, and only then', needs('promtool'), async (t) => {
  const folder = t.testdir()
  const file = join(folder, 'cases.yaml')
  const seriesOf = (series: string, values: string) => ({ series, values })
  const fires = (alertname: string, eval_time: string, exp_labels: Record<string, string>[]) => ({
    alertname,
    eval_time,
    exp_alerts: exp_labels.map((labels) => ({ exp_labels: labels, exp_annotations: annotationsOf(alertname, labels) })),
  })
  const { groups } = parse(readFileSync('deploy/prometheus-rules.yaml', 'utf8')) as { groups: { rules: Rule[] }[] }
  const annotationsOf = (name: string, labels: Record<string, string>) => {
    const { summary = '', runbook = '' } = groups[0]?.rules.find(({ alert }) => alert === name)?.annotations ?? {}
    return { summary: summary.replace(/\{\{ \$labels\.(\w+) \}\}/g, (_, label) => labels[label] ?? ''), runbook }
  }
  const core = { instance: 'a', part: 'core', severity: 'page' }
  const transport = { instance: 't', severity: 'page' }
  const cases = {
    rule_files: [join(process.cwd(), 'deploy/prometheus-rules.yaml')],
    evaluation_interval: '1m',
    tests: [
      {
        interval: '1m',
        input_series: [
          seriesOf('borealis_core_nats_connected{instance="a",part="core"}', '1 1 1 0 0 0 0'),
          seriesOf('borealis_core_messages_total{instance="a",part="core",outcome="storage_full"}', '0 0 0 0 0 5 5'),
          seriesOf('borealis_transport_nats_connected{instance="t",part="transport"}', '4 4 4 3 3 3 3'),
          seriesOf('borealis_transport_workers{instance="t",part="transport",state="ready"}', '4 4 4 4 4 4 4'),
        ],
        alert_rule_test: [
          fires('BorealisCoreWithoutNats', '2m', []),
          fires('BorealisCoreWithoutNats', '5m', [core]),
          fires('BorealisStoreFull', '4m', []),
          fires('BorealisStoreFull', '6m', [{ ...core, outcome: 'storage_full' }]),
          fires('BorealisTransportWithoutNats', '2m', []),
          fires('BorealisTransportWithoutNats', '6m', [transport]),
        ],
      },
    ],
  }
  writeFileSync(file, JSON.stringify(cases))
  t.match(execFileSync(findProgram('promtool') ?? '', ['test', 'rules', file], { encoding: 'utf8' }), /SUCCESS/)
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
