/**
 * Reads the events of a project from NATS without missing one, and prints them: docs/send/events.md.
 *
 *     node dist/docs/examples/subscribe.js sample
 *
 * NATS_URL (default 127.0.0.1:4222), NATS_USER and NATS_PASSWORD say where, and as whom. EVENTS: the program ends after that
 * many events.
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
  // This consumer was made when events were turned on. It keeps the events that come while nobody reads.
  const consumer = await connection.jetstream().consumers.get('PUSH_EVENTS', `reader-${project}`)
  let left = Number(EVENTS)
  for await (const message of await consumer.consume()) {
    process.stdout.write(`${message.subject} ${message.string()}\n`)
    // Acknowledge after the work that the event leads to. An event without an acknowledgement comes again.
    message.ack()
    if (--left <= 0) break
  }
} finally {
  await connection.drain()
}
