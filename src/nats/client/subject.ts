/**
 * Checks of subjects. A subject goes to the server as it is, in a line of text: with a space in it, a command would have
 * one word more, and with a line end it would be two commands. Each API checks the ids that it receives; this is the
 * second check.
 */

const NO_SUBJECT = /[\0-\x20\x7f*>]/
const NO_FILTER = /[\0-\x20\x7f]/

/** Checks the subject of one publish, record or key. Throws RangeError for white space, control characters and wildcards. */
export function checkSubject(subject: string): void {
  if (NO_SUBJECT.test(subject)) throw new RangeError(`not a subject: ${JSON.stringify(subject)}`)
}

/** Checks the subject of a subscription, which may have wildcards. Throws RangeError. */
export function checkFilter(filter: string): void {
  if (NO_FILTER.test(filter)) throw new RangeError(`not a filter: ${JSON.stringify(filter)}`)
}
