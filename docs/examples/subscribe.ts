/**
 * Reads the events of a project from NATS, without missing one, and shows them: docs/send/events.md.
 *
 *     node dist/docs/examples/subscribe.js sample
 *
 * NATS_URL (default 127.0.0.1:4222), NATS_USER and NATS_PASSWORD say where, and as whom. EVENTS: ends after so many.
 */
import { connect } from 'nats'

const [project] = process.argv.slice(2)
const { NATS_URL = '127.0.0.1:4222', NATS_USER = 'subscriber', NATS_PASSWORD = '', EVENTS = 'Infinity' } = process.env

if (project === undefined) throw new Error('usage: subscribe.js <project>')

const connection = await connect({
  servers: NATS_URL,
  user: NATS_USER,
  pass: NATS_PASSWORD,
  // The permissions of a subscriber name this prefix.
  inboxPrefix: `_INBOX.${NATS_USER}`,
})
try {
  // It was made when the events were turned on, and keeps what comes while nobody reads.
  const consumer = await connection.jetstream().consumers.get('PUSH_EVENTS', `reader-${project}`)
  let left = Number(EVENTS)
  for await (const message of await consumer.consume()) {
    process.stdout.write(`${message.subject} ${message.string()}\n`)
    // After what it leads to was done: without it the event comes again.
    message.ack()
    if (--left <= 0) break
  }
} finally {
  await connection.drain()
}
