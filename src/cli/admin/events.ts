/** `borealis admin events` and `borealis admin webhook`: events for app servers about the outcome of messages. */
import type { Command } from 'commander'
import { systemClock } from '../../clock.js'
import { FeedAdministration, type FeedView } from '../../core/outcomes/feed-administration.js'
import { feedOutput } from '../../core/outcomes/feed-output.js'
import type { Actor } from '../../core/tenants/auth/roles.js'
import { keyringOf } from '../keyring.js'
import { type Options, type Output, onService } from './run.js'

export function eventCommands(events: Command): void {
  events
    .command('show <project>')
    .description('show whether events are on, and the state of the webhook')
    .action(onFeeds((feeds, { actor, project }) => feeds.show(actor, project)))
  events
    .command('on <project>')
    .description('publish every end from now on as push.event.<project>.<kind> on NATS')
    .action(onFeeds((feeds, { actor, project }) => feeds.turnOn(actor, project)))
  events
    .command('off <project>')
    .description('publish no more events, and remove the webhook')
    .action(onFeeds((feeds, { actor, project }) => feeds.turnOff(actor, project)))
}

export function webhookCommands(webhook: Command): void {
  webhook
    .command('set <project>')
    .description('set the address for events; prints the secret of a new webhook, which is not shown again')
    .requiredOption('--url <url>', 'URL of the receiver')
    .option('--kinds <kinds>', 'only events of these kinds, separated by commas; by default, all')
    .action(
      onFeeds(
        (feeds, { actor, project, options: { url = '', kinds } }) =>
          feeds.setWebhook(actor, project, { url, kinds: kinds?.split(',') ?? null }),
        { makesSecret: true },
      ),
    )
  webhook
    .command('rotate <project>')
    .description('make a new secret and print it once; the old one also signs for webhooks.secretOverlapMs')
    .action(onFeeds((feeds, { actor, project }) => feeds.rotateSecret(actor, project), { makesSecret: true }))
  webhook
    .command('retry <project>')
    .description('try a paused or disabled webhook at once')
    .action(onFeeds((feeds, { actor, project }) => feeds.retryWebhook(actor, project)))
  webhook
    .command('remove <project>')
    .description('remove the webhook; events stay on')
    .action(onFeeds((feeds, { actor, project }) => feeds.removeWebhook(actor, project)))
}

interface Run {
  actor: Actor
  project: string
  options: Options
}

/** @param needs a command that makes a secret needs the keyring, to encrypt it. */
function onFeeds(
  run: (feeds: FeedAdministration, run: Run) => Promise<FeedView & { secret?: string | null }>,
  needs: { makesSecret?: boolean } = {},
) {
  return onService(
    async (administration, { config, broker, args: [project = ''], actor, options }): Promise<Output> => {
      const { store, webhooks: settings } = config
      const clock = systemClock
      const keyring = needs.makesSecret ? await keyringOf(broker, config) : null
      const secrets = () => {
        if (!keyring) throw new Error('a command that makes a secret has not read the keyring')
        return keyring.secretsKeys
      }
      const feeds = new FeedAdministration({ administration, broker, clock, split: store.split, settings, secrets })
      const { secret, ...view } = await run(feeds, { actor, project, options })
      return { ...feedOutput(view), ...(secret ? { secret } : {}) }
    },
  )
}
