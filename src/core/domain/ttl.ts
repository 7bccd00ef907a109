/** Times to live as the API writes them: `5h30m`, `90s`, `0s`. Units h, m, s, in this order, each at most once. */

const TTL = /^(?=[0-9])(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?$/

/** Milliseconds; null where the text is none. */
export function parseTtl(text: string): number | null {
  const match = TTL.exec(text)
  if (!match) return null
  const [, hours = '0', minutes = '0', seconds = '0'] = match
  return ((Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds)) * 1000
}
