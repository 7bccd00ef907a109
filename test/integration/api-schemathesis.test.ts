/** Schemathesis, a general API tester, checks both HTTP APIs of a running system against their OpenAPI documents. */
import { generateKeyPairSync } from 'node:crypto'
import t, { type Test } from 'tap'
import { freePort } from '../../bench/system/ports.js'
import { systemClock } from '../../src/clock.js'
import { Administration } from '../../src/core/tenants/administration.js'
import { startLive } from '../device/live.js'
import { root } from '../support/admin-api.js'
import { PUBLISHER_PROJECT } from '../support/nats.js'
import { ensureSchemathesis, runSchemathesis, type SchemathesisOptions } from '../support/schemathesis.js'

/** Only a safety net for a very busy machine: with this number of requests each run takes less than a minute. */
t.setTimeout(280_000)

const SEED = 20_260_101
/** For a search by hand, these variables set another seed and more requests. */
const seed = Number(process.env.BOREALIS_TEST_SEED ?? SEED)
const examplesMax = Number(process.env.BOREALIS_TEST_EXAMPLES ?? 6)

const missing = ensureSchemathesis()
const options = missing === null ? {} : { skip: missing }

async function setUp(t: Test) {
  const live = await startLive(t, {
    // The tester has one address and one project, and sends as fast as it can.
    limits: {
      messagesPerSecond: 0,
      requestsPerSecond: 0,
      enrolmentsPerSecond: 1_000_000,
      enrolmentsPerKeyPerSecond: 1_000_000,
    },
    auth: { tokenRequestsPerSecond: 1_000_000, tokenRequestsBurst: 1_000_000 },
    adminApi: { host: '127.0.0.1', port: await freePort(), requestsPerSecond: 1_000_000, changesPerDay: 0 },
  })
  const device = await live.device('phone')
  device.connect()
  const { registrationId } = await device.register(live.application)
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const known = {
    registrationId,
    application: live.application,
    enrolmentKey: live.enrolmentKey,
    publicKey: publicKey.export({ format: 'pem', type: 'spki' }) as string,
    project: PUBLISHER_PROJECT,
  }
  return { live, known }
}

t.test('each answer of the public API agrees with its OpenAPI document', options, async (t) => {
  const { live, known } = await setUp(t)
  await checkAgreement(t, { url: live.coreUrl, token: live.token, known, examplesMax, seed })
})

t.test('each answer of the admin API agrees with its OpenAPI document', options, async (t) => {
  const { live, known } = await setUp(t)
  const administration = new Administration(await live.nats.brokerAs('admin'), systemClock)
  const { secret } = await administration.createCredential(root, { name: 'tester', role: 'operator' })
  await checkAgreement(t, { url: live.core.adminUrl ?? '', token: secret, known, examplesMax, seed })
})

async function checkAgreement(t: Test, options: SchemathesisOptions): Promise<void> {
  const { paths } = (await (await fetch(`${options.url}/openapi.json`)).json()) as { paths: Record<string, object> }
  const operations = Object.values(paths).flatMap((methods) => Object.keys(methods)).length
  const { code, report } = await runSchemathesis(options)
  t.comment(report)
  t.equal(code, 0, 'no server error, and no disagreement')
  t.equal(Number(/Tested: +([0-9]+)/.exec(report)?.[1]), operations, 'each operation is tested')
  t.ok(Number(/([0-9]+) generated/.exec(report)?.[1]) > 10 * operations, 'with more than ten requests each')
}
