/** `borealis backup DIR` and `borealis restore DIR`. */
import { Command } from 'commander'
import { connect } from '../nats/connect.js'
import { MANIFEST_FILE } from './backup/manifest.js'
import { restoreBackup } from './backup/restore.js'
import { takeBackup } from './backup/take.js'
import { loadConfig } from './context.js'
import { version } from './version.js'

interface Options {
  withoutKeyring?: boolean
  replace?: boolean
  json?: boolean
}

export const backupCommand = new Command('backup')
  .description('copy all streams and tables, and the keyring, into a new folder; the service may run')
  .argument('<folder>', 'new or empty')
  .option('--without-keyring', 'leave the keyring out: keep a copy of it elsewhere')
  .option('--json', 'print the manifest')
  .action(async (folder: string, options: Options, command: Command) => {
    const { nats, store, keyring } = loadConfig(command)
    await stoppable(async (signal) => {
      const broker = await connect(nats, { name: 'backup' })
      try {
        const keyringFile = options.withoutKeyring ? null : keyring.file
        const manifest = await takeBackup({
          broker,
          user: nats.user,
          folder,
          split: store.split,
          version: version(),
          keyringFile,
          signal,
          say,
        })
        if (manifest.keyring) {
          say(
            `WARNING: ${folder}/${manifest.keyring.file} can sign for every device and project: keep it apart and secret`,
          )
        }
        const records = manifest.streams.reduce((sum, stream) => sum + stream.records, 0)
        const bytes = manifest.streams.reduce((sum, { snapshot, tail }) => sum + snapshot.bytes + (tail?.bytes ?? 0), 0)
        print(
          options,
          manifest,
          `${records} records of ${manifest.streams.length} streams, ${bytes} bytes; ${MANIFEST_FILE} lists them`,
        )
      } finally {
        await broker.close()
      }
    })
  })

export const restoreCommand = new Command('restore')
  .description('bring a backup into an empty store; no core and no transport may run')
  .argument('<folder>', 'a folder that `borealis backup` wrote')
  .option('--replace', 'delete everything that the store has now')
  .option('--without-keyring', 'leave the keyring of this machine as it is')
  .option('--json', 'print the result')
  .action(async (folder: string, options: Options, command: Command) => {
    const { nats, store, keyring } = loadConfig(command)
    await stoppable(async (signal) => {
      const broker = await connect(nats, { name: 'restore' })
      try {
        const restored = await restoreBackup({
          broker,
          folder,
          store,
          version: version(),
          signal,
          say,
          keyringFile: options.withoutKeyring ? null : keyring.file,
          replace: options.replace === true,
        })
        const { records, streams, tailRecords, failed } = restored
        const ended = failed > 0 ? `; ${failed} targets that the backup does not hold ended as failed` : ''
        print(
          options,
          restored,
          `${records + tailRecords} records of ${streams} streams; keyring: ${restored.keyring}${ended}`,
        )
      } finally {
        await broker.close()
      }
    })
  })

/** The first SIGINT or SIGTERM stops in order; the second one ends the process. */
async function stoppable(run: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const controller = new AbortController()
  const stop = () => {
    if (controller.signal.aborted) process.exit(130)
    say('stopping')
    controller.abort()
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
  try {
    await run(controller.signal)
  } finally {
    process.off('SIGINT', stop)
    process.off('SIGTERM', stop)
  }
}

function say(text: string): void {
  process.stderr.write(`${text}\n`)
}

function print({ json }: Options, result: object, text: string): void {
  process.stdout.write(json ? `${JSON.stringify(result, null, 2)}\n` : `${text}\n`)
}
