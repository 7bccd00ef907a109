/**
 * A subject goes to the server as it is, in a line of text: with a space in it, it would be two words of a command, and
 * with a line end two commands. Ids are checked where they come in; whoever forgets that is stopped here.
 */

const NO_SUBJECT = /[\0-\x20\x7f*>]/
const NO_FILTER = /[\0-\x20\x7f]/

/** Of one publish, record or key. Throws RangeError where it has white space, control characters or wildcards. */
export function checkSubject(subject: string): void {
  if (NO_SUBJECT.test(subject)) throw new RangeError(`no subject: ${JSON.stringify(subject)}`)
}

/** Of a subscription: it may have wildcards. Throws RangeError. */
export function checkFilter(filter: string): void {
  if (NO_FILTER.test(filter)) throw new RangeError(`no filter: ${JSON.stringify(filter)}`)
}
