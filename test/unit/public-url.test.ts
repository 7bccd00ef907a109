/** The addresses at which this machine reaches its own listeners. */
import t from 'tap'
import { authorityOf, publicUrlOf, reachableHost } from '../../src/core/api/public-url.js'

t.test('a listener on all addresses is reached on the loopback address; IPv6 has brackets only in URLs', async (t) => {
  const cases: [string, string, string][] = [
    ['0.0.0.0', '127.0.0.1', '127.0.0.1:7'],
    ['::', '::1', '[::1]:7'],
    ['fd00::7', 'fd00::7', '[fd00::7]:7'],
    ['push.example.com', 'push.example.com', 'push.example.com:7'],
  ]
  for (const [host, reachable, authority] of cases) {
    t.equal(reachableHost(host), reachable)
    t.equal(authorityOf(host, 7), authority)
    t.equal(publicUrlOf({ publicUrl: '', host, port: 7 }), `http://${authority}`)
  }
})
