/** The summary on the terminal when everything runs, and the files for tools. */
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { stringify } from 'yaml'
import type { Config } from '../../config/config.js'
import { settingsFileOf, settingsYaml } from '../../core/tenants/settings-file.js'
import type { DataFolder } from './folder.js'
import type { Sample } from './sample.js'

/** The content of the summary. */
export interface Running {
  folder: DataFolder
  apiUrl: string
  transportUrl: string
  natsUrl: string
  /** Empty without `metrics.port`. */
  metricsUrls: readonly string[]
  sample: Sample
  token: string
  /** Null if no sample device was started. */
  registrationId: string | null
}

/** The last line before the pushes. Tests and scripts wait for it. */
export const readyLine = 'ready: waiting for pushes, Ctrl-C stops everything'

export function summary(running: Running): string {
  const { folder, apiUrl, transportUrl, natsUrl, metricsUrls, sample, token, registrationId } = running
  const rows: [string, string][] = [
    ['HTTP API', `${apiUrl}/push/public/api/v1/`],
    ['API reference', `${apiUrl}/docs`],
    ['devices', transportUrl],
    ['NATS', natsUrl],
    ...(metricsUrls.length > 0 ? [['metrics', metricsUrls.join(', ')] as [string, string]] : []),
    ['data', folder.path],
    ['project', `${sample.project} (clientId ${sample.clientId}, keyId ${sample.serviceKey.keyId})`],
    ['settings file', folder.file('sample-settings.yaml')],
    ['private key', folder.file('sample-key.pem')],
    ['application', sample.application],
    ['enrolment key', sample.enrolmentKey],
    ['administration', `npx borealis --config ${folder.file('borealis.yaml')} admin --help`],
  ]
  const width = Math.max(...rows.map(([name]) => name.length))
  const lines = rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`)
  const push =
    registrationId === null
      ? []
      : [
          '',
          'Send a push from another terminal; it appears here:',
          '',
          pushCommand(apiUrl, sample, token, registrationId),
        ]
  return `${['', ...lines, ...push, '', `borealis  ${readyLine}`, ''].join('\n')}`
}

/** A command line that sends a push: with curl, or with Node if the machine has no curl. */
export function pushCommand(apiUrl: string, sample: Sample, token: string, registrationId: string): string {
  const url = `${apiUrl}/push/public/api/v1/projects/${sample.project}/messages`
  const body = JSON.stringify({
    type: 'device',
    target: registrationId,
    ttl: '1h',
    notification: { title: 'Hello', message: 'The first push', data: { from: 'the command line' } },
  })
  if (onPath('curl')) {
    return `curl -sS -X POST ${url} -H 'authorization: Bearer ${token}' -H 'content-type: application/json' -d '${body}'`
  }
  const headers = JSON.stringify({ authorization: `Bearer ${token}`, 'content-type': 'application/json' })
  const script = `fetch("${url}",{method:"POST",headers:${headers},body:JSON.stringify(${body})}).then(r=>r.text()).then(console.log)`
  return `node -e '${script}'`
}

interface ToolSources {
  nats: Config['nats']
  keyringFile: string
  sample: Sample
  apiUrl: string
  auth: Config['auth']
}

/** Writes the files for tools, such as `borealis --config <folder>/borealis.yaml admin ...`. */
export function writeToolConfig(folder: DataFolder, { nats, keyringFile, sample, apiUrl, auth }: ToolSources): void {
  const { url, user, password } = nats
  const settings = { nats: { url, user, password }, keyring: { file: keyringFile }, http: { publicUrl: apiUrl } }
  folder.writeText(
    'borealis.yaml',
    `# Made by borealis start, for tools. Contains the password of an administrator.\n${stringify(settings)}`,
  )
  folder.writeText('sample-key.pem', sample.serviceKey.privateKey)
  const { project, clientId, serviceKey } = sample
  folder.writeText(
    'sample-settings.yaml',
    settingsYaml(settingsFileOf({ project, clientId, ...serviceKey, publicUrl: apiUrl, auth })),
  )
}

function onPath(program: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      // Not in this folder.
      return false
    }
  })
}
