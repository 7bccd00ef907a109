/**
 * Prints a user token: the signed statement of an app server that a user of the project uses a device.
 * docs/send/users.md.
 *
 *     npm install jose yaml
 *     node user-token.js settings.yaml <applicationId> <deviceId> <user>
 */
import { createPrivateKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { SignJWT } from 'jose'
import { parse } from 'yaml'

const [file, application, device, user] = process.argv.slice(2)
if (file === undefined || application === undefined || device === undefined || user === undefined) {
  throw new Error('usage: user-token.js <settings file> <applicationId> <deviceId> <user>')
}
const { key_id: kid, private_key: pem } = parse(readFileSync(file, 'utf8')).push_notification_system
const key = createPrivateKey(pem)
const token = await new SignJWT({ device })
  .setProtectedHeader({
    alg: key.asymmetricKeyType === 'ec' ? 'ES256' : 'RS256',
    // Tells a user token from the client assertion, which the same key signs.
    typ: 'borealis-user+jwt',
    kid,
  })
  .setAudience(application)
  .setSubject(user)
  .setExpirationTime('10 minutes')
  .sign(key)
process.stdout.write(`${token}\n`)
