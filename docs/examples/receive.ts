/**
 * A device that shows its pushes: docs/receive/README.md.
 *
 *     ENROLMENT_KEY=bek_... node dist/docs/examples/receive.js http://127.0.0.1:8080 app_... device.state
 *
 * The arguments are the address of the core, the application and the state file. The device enrols if the file has no
 * identity yet. The program prints the registrationId, which senders need, then each push, until Ctrl-C. When it starts
 * again with the same file it is the same device. Exit code 1: the service does not want this device any more.
 */
import { openClient } from '../../src/device/index.js'

const [url, application, state] = process.argv.slice(2)
const { ENROLMENT_KEY: enrolmentKey = '' } = process.env

if (!url || !application || !state) throw new Error('usage: receive.js <core> <application> <state file>')

const device = await openClient({ state, enrol: { url, enrolmentKey, name: 'receive' }, random: Math.random })
device.on('notification', ({ title, message, data, possibleDuplicate }) => {
  process.stdout.write(`push ${JSON.stringify({ title, message, data, possibleDuplicate })}\n`)
})
device.on('gap', ({ count, reason }) => {
  // Messages are lost: ask the app's backend for what it has sent meanwhile.
  process.stdout.write(`gap ${JSON.stringify({ count, reason })}\n`)
})
device.on('error', ({ message, next }) => process.stderr.write(`${message}. Next: ${next}\n`))
let isStopping = false
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    isStopping = true
    void device.close()
  })
}
device.on('closed', ({ reconnectInMs }) => {
  if (reconnectInMs !== null || isStopping) return
  process.exitCode = 1
  void device.close()
})

device.connect()
try {
  const { registrationId } = await device.register(application)
  process.stdout.write(`registered ${registrationId}\n`)
} catch (error) {
  // The push service may know the application later: the device stays connected, and registers at its next start.
  if (!isStopping) process.stderr.write(`not registered: ${error instanceof Error ? error.message : error}\n`)
}
