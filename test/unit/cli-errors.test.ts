import t from 'tap'
import { CodedError } from '../../protocol/errors.js'
import { CommandError } from '../../src/cli/context.js'
import { describe } from '../../src/cli.js'

t.test('an error whose cause says the same shows its message once', async (t) => {
  const cause = new CodedError('invalid_request', 'there is a project shop already')
  const error = new CommandError(`${cause.message} (${cause.code})`, 1, { cause })
  t.equal(describe(error), 'there is a project shop already (invalid_request)')
})

t.test('the reasons of all causes follow the message, also behind a cause that adds nothing', async (t) => {
  const refused = new Error('connect ECONNREFUSED 127.0.0.1:4222')
  const cause = new Error('nats-server does not answer', { cause: refused })
  const error = new CommandError('nats-server does not answer', 1, { cause })
  t.equal(describe(error), 'nats-server does not answer: connect ECONNREFUSED 127.0.0.1:4222')
  t.equal(describe(new TypeError('')), 'TypeError')
})
