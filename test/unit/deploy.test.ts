/** The files in deploy/ name settings and metrics that exist, and the programs that read these files accept them. */
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
const metrics = new Map([...metricsOf('transport'), ...metricsOf('core')].map((metric) => [metric.name, metric]))

t.test('the dashboard queries existing metrics with existing labels, and counters as rates', async (t) => {
  const { panels } = JSON.parse(readFileSync('deploy/grafana-dashboard.json', 'utf8')) as {
    panels: { title: string; targets: { expr: string }[] }[]
  }
  const exprs = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))
  t.ok(exprs.length > 15)
  for (const expr of exprs) {
    const names = expr.match(/borealis_\w+/g) ?? []
    t.ok(names.length > 0, expr)
    for (const name of names) {
      const metric = metrics.get(name)
      t.ok(metric, `${name} exists`)
      t.equal(metric?.type === 'counter', expr.includes('rate('), `${expr}: a rate, if and only if it is a counter`)
      const label = /by \((\w+)\)/.exec(expr)?.[1]
      if (label && label !== 'part') t.ok(metric?.labels.includes(label), `${name} has the label ${label}`)
    }
  }
})

interface Rule {
  alert: string
  expr: string
  labels: { severity: string }
  annotations: { summary: string; runbook: string }
}

const { groups } = parse(readFileSync('deploy/prometheus-rules.yaml', 'utf8')) as { groups: { rules: Rule[] }[] }
const rules = groups.flatMap((group) => group.rules)

t.test('alert rules query existing metrics with existing labels, and counters as rates', async (t) => {
  t.ok(rules.length > 10)
  for (const { alert, expr } of rules) {
    const names = expr.match(/borealis_\w+/g) ?? []
    t.ok(names.length > 0 || expr.startsWith('up{'), alert)
    for (const name of names) {
      const metric = metrics.get(name)
      t.ok(metric, `${alert}: ${name} exists`)
      t.equal(metric?.type === 'counter', name.endsWith('_total'))
      if (metric?.type === 'counter')
        t.match(expr, new RegExp(`(rate|increase)\\(${name}\\b`), `${alert}: ${name} is a counter`)
    }
    for (const [, name = '', label = ''] of expr.matchAll(/(borealis_\w+)\{(\w+)/g)) {
      t.ok(metrics.get(name)?.labels.includes(label), `${alert}: ${name} has the label ${label}`)
    }
  }
})

t.test('each alert has a severity, a summary and a section in docs/operate/alerts.md', async (t) => {
  for (const { alert, labels, annotations } of rules) {
    t.match(labels.severity, /^(page|ticket)$/, alert)
    t.equal(annotations.runbook, `docs/operate/alerts.md#${alert.toLowerCase()}`)
    t.ok(annotations.summary, alert)
  }
  const page = readFileSync('docs/operate/alerts.md', 'utf8')
  const sections = [...page.matchAll(/^## (\w+)\n\n\*(Page|Ticket)\.\*/gm)].map(([, name, kind]) => [name, kind])
  const wanted = rules.map(({ alert, labels }) => [alert, labels.severity === 'page' ? 'Page' : 'Ticket'])
  t.same(sections, wanted, 'docs/operate/alerts.md has the same alerts in the same order')
})

t.test('promtool accepts the alert rules', needs('promtool'), async (t) => {
  const output = execFileSync(findProgram('promtool') ?? '', ['check', 'rules', 'deploy/prometheus-rules.yaml'], {
    encoding: 'utf8',
  })
  t.match(output, /SUCCESS: \d+ rules found/)
})

t.test('alerts fire after NATS is lost or the store is full, and not before', needs('promtool'), async (t) => {
  const folder = t.testdir()
  const file = join(folder, 'cases.yaml')
  const seriesOf = (series: string, values: string) => ({ series, values })
  const fires = (alertname: string, eval_time: string, exp_labels: Record<string, string>[]) => ({
    alertname,
    eval_time,
    exp_alerts: exp_labels.map((labels) => ({ exp_labels: labels, exp_annotations: annotationsOf(alertname, labels) })),
  })
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
          // AUDIT removes its oldest records: it is always full, and no alert is due.
          seriesOf('borealis_core_stream_fill_ratio{instance="a",part="core",stream="AUDIT"}', '1x90'),
          seriesOf('borealis_core_stream_fill_ratio{instance="a",part="core",stream="EVENTS_0"}', '0.95x90'),
          seriesOf('borealis_core_stream_full_in_days{instance="a",part="core",stream="QUEUE_1"}', '5x90'),
          seriesOf('borealis_transport_nats_connected{instance="t",part="transport"}', '4 4 4 3 3 3 3'),
          seriesOf('borealis_transport_workers{instance="t",part="transport",state="ready"}', '4 4 4 4 4 4 4'),
        ],
        alert_rule_test: [
          fires('BorealisCoreWithoutNats', '2m', []),
          fires('BorealisCoreWithoutNats', '5m', [core]),
          fires('BorealisStoreFull', '4m', []),
          fires('BorealisStoreFull', '6m', [{ ...core, outcome: 'storage_full' }]),
          fires('BorealisStoreFilling', '30m', []),
          fires('BorealisStoreFilling', '70m', [
            { stream: 'EVENTS_0', severity: 'ticket' },
            { stream: 'QUEUE_1', severity: 'ticket' },
          ]),
          fires('BorealisTransportWithoutNats', '2m', []),
          fires('BorealisTransportWithoutNats', '6m', [transport]),
        ],
      },
    ],
  }
  writeFileSync(file, JSON.stringify(cases))
  t.match(execFileSync(findProgram('promtool') ?? '', ['test', 'rules', file], { encoding: 'utf8' }), /SUCCESS/)
})

const compose = parse(readFileSync('deploy/compose.yaml', 'utf8')) as {
  services: Record<string, { environment?: Record<string, string>; command: string[] }>
}

t.test('the compose file and the systemd units name existing settings', async (t) => {
  t.same(Object.keys(compose.services), ['nats', 'core', 'transport'])
  const units = readdirSync('deploy/systemd').map((name) => readFileSync(join('deploy/systemd', name), 'utf8'))
  const named = [
    ...Object.values(compose.services).flatMap(({ environment = {} }) => Object.keys(environment)),
    ...units.flatMap((unit) => unit.match(/BOREALIS_[A-Z_]+/g) ?? []),
  ]
  t.ok(named.length > 8)
  for (const name of named) t.ok(variables.has(name) || name === 'NODE_OPTIONS', name)
})

t.test('a core under compose or systemd runs with the V8 flag that `npm start` gives it', async (t) => {
  const [flag] = v8Flags('core', '')
  t.equal(compose.services.core?.environment?.NODE_OPTIONS, flag)
  t.match(readFileSync('deploy/systemd/borealis-core.service', 'utf8'), `\nEnvironment=NODE_OPTIONS=${flag}\n`)
})

t.test('systemd-analyze finds no fault in the units', needs('systemd-analyze'), async (t) => {
  const folder = t.testdir()
  for (const name of readdirSync('deploy/systemd')) {
    const path = join(folder, name)
    // This machine may lack the user of the unit.
    writeFileSync(path, readFileSync(join('deploy/systemd', name), 'utf8').replace(/^User=.*\n/m, ''))
    const output = execFileSync(findProgram('systemd-analyze') ?? '', ['verify', path], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    t.equal(output, '', name)
  }
})

t.test('the process calls systemd-notify for READY and WATCHDOG only if NOTIFY_SOCKET is set', async (t) => {
  const folder = t.testdir()
  const bin = join(folder, 'bin')
  mkdirSync(bin)
  const calls = join(folder, 'calls')
  writeFileSync(join(bin, 'systemd-notify'), `#!/bin/sh\necho "$@" >> ${calls}\n`)
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
  t.notOk(existsSync(calls), 'no call without NOTIFY_SOCKET')
  const pid = await run({ NOTIFY_SOCKET: '/run/none', WATCHDOG_USEC: '200000' })
  const lines = readFileSync(calls, 'utf8').trim().split('\n')
  t.equal(lines[0], `--pid=${pid} READY=1`)
  t.equal(lines[1], `--pid=${pid} WATCHDOG=1`)
})
