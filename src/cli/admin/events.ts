/** `borealis admin events` and `borealis admin webhook`: what became of a project's messages, told to its app server. */
import type { Command } from 'commander'
import { systemClock } from '../../clock.js'
import { FeedAdministration, type FeedView } from '../../core/outcomes/feed-administration.js'
import { feedOutput } from '../../core/outcomes/feed-output.js'
import type { Actor } from '../../core/tenants/auth/roles.js'
import { type Options, type Output, onService } from './run.js'

export function eventCommands(events: Command): void {
  events
    .command('show <project>')
    .description('whether events are told, and how the webhook does')
    .action(onFeeds((feeds, { actor, project }) => feeds.show(actor, project)))
  events
    .command('on <project>')
    .description('tell what ends from now on, as push.event.<project>.<kind> on NATS')
    .action(onFeeds((feeds, { actor, project }) => feeds.turnOn(actor, project)))
  events
    .command('off <project>')
    .description('tell nothing more, and remove the webhook')
    .action(onFeeds((feeds, { actor, project }) => feeds.turnOff(actor, project)))
}

export function webhookCommands(webhook: Command): void {
  webhook
    .command('set <project>')
    .description('set where events are posted to; prints the secret of a new webhook, which is not shown again')
    .requiredOption('--url <url>', 'of the receiver')
    .option('--kinds <kinds>', 'only these, separated by commas; absent: all')
    .action(
      onFeeds((feeds, { actor, project, options: { url = '', kinds } }) =>
        feeds.setWebhook(actor, project, { url, kinds: kinds?.split(',') ?? null }),
      ),
    )
  webhook
    .command('rotate <project>')
    .description('a new secret, printed once; the one before signs beside it for webhooks.secretOverlapMs')
    .action(onFeeds((feeds, { actor, project }) => feeds.rotateSecret(actor, project)))
  webhook
    .command('retry <project>')
    .description('try a webhook that is paused or disabled at once')
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

function onFeeds(run: (feeds: FeedAdministration, run: Run) => Promise<FeedView & { secret?: string | null }>) {
  return onService(
    async (administration, { config, broker, args: [project = ''], actor, options }): Promise<Output> => {
      const { store, webhooks: settings } = config
      const clock = systemClock
      const feeds = new FeedAdministration({ administration, broker, clock, split: store.split, settings })
      const { secret, ...view } = await run(feeds, { actor, project, options })
      return { ...feedOutput(view), ...(secret ? { secret } : {}) }
    },
  )
}
