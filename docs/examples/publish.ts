/**
 * Publishes one push over NATS and shows the PubAck: docs/send/nats-publishing.md.
 *
 *     node dist/docs/examples/publish.js sample '{"type":"device","target":"<registrationId>","ttl":"1h"}'
 *
 * NATS_URL (default 127.0.0.1:4222), NATS_USER and NATS_PASSWORD say where, and as whom. Exit code 0: stored.
 */
import { connect, headers } from 'nats'

const [project, message] = process.argv.slice(2)
const { NATS_URL = '127.0.0.1:4222', NATS_USER = 'publisher', NATS_PASSWORD = '' } = process.env

if (project === undefined || message === undefined) throw new Error('usage: publish.js <project> <message as JSON>')

const connection = await connect({
  servers: NATS_URL,
  user: NATS_USER,
  pass: NATS_PASSWORD,
  // The permissions of a publisher name this prefix. Without it the PubAck does not arrive.
  inboxPrefix: `_INBOX.${NATS_USER}`,
})
try {
  const about = headers()
  about.set('Content-Type', 'application/json')
  // Rejects if JetStream does not store the message, or does not answer in time. A PubAck says that the message is
  // stored, and not that it is valid.
  const ack = await connection.jetstream().publish(`push.send.${project}`, new TextEncoder().encode(message), {
    headers: about,
    // Your own id of this push. If no answer comes, publish it again with the same id: it is stored once.
    msgID: process.env.MESSAGE_ID ?? crypto.randomUUID(),
  })
  process.stdout.write(`${JSON.stringify({ stream: ack.stream, seq: ack.seq, duplicate: ack.duplicate })}\n`)
} finally {
  await connection.close()
}
