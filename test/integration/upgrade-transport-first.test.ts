/** An upgrade from the previous version, transports first. */
import t from 'tap'
import { testUpgrade } from '../support/previous-version.js'

t.setTimeout(300_000)

testUpgrade(['transport', 'core'])
