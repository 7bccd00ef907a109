/** Reads the TAP output of one test file: its assertions with their path of subtests, and the diagnoses of failures. */

/** @typedef {{ path: string[], ok: boolean, counts: boolean, skip: string | null, diagnosis: string[] }} Point `counts`: neither skipped nor a todo; `skip`: the reason for skipping it, or null. */

const POINT = /^( *)(not )?ok \d+(?: - )?(.*)$/
const SUBTEST = /^( *)# Subtest: (.*)$/
const INDENT = 4

/** The leaves of the tree. The verdict of a subtest is one of them only if the subtest fails for a reason of its own. */
export function pointsOf(output) {
  const points = []
  const open = []
  const lines = output.split('\n')
  for (let at = 0; at < lines.length; at++) {
    const subtest = SUBTEST.exec(lines[at])
    if (subtest) {
      open.length = Math.min(open.length, subtest[1].length / INDENT)
      open[subtest[1].length / INDENT] = { name: subtest[2], failures: 0 }
      continue
    }
    const found = POINT.exec(lines[at])
    if (!found) continue
    const [, indent, not, rest] = found
    const depth = indent.length / INDENT
    const closing = open[depth]
    open.length = Math.min(open.length, depth)
    const ok = not === undefined
    if (closing && (ok || closing.failures > 0)) {
      if (!ok) for (const outer of open) if (outer) outer.failures++
      continue
    }
    const diagnosis = diagnosisAfter(lines, at, indent)
    const counts = !/ # (?:SKIP|TODO)\b/i.test(rest)
    const name = closing?.name ?? rest.replace(/ # (?:time=|SKIP\b).*$/i, '')
    const skip = / # SKIP\b ?(.*)$/i.exec(rest)?.[1] ?? null
    points.push({ path: [...open.map((outer) => outer?.name ?? '?'), name], ok, counts, skip, diagnosis })
    if (!ok && counts) for (const outer of open) if (outer) outer.failures++
  }
  return points
}

export const failuresOf = (output) => pointsOf(output).filter(({ ok, counts }) => !ok && counts)

export const skippedOf = (output) => pointsOf(output).filter(({ skip }) => skip !== null)

/** The lines of the YAML block that follows a point. */
function diagnosisAfter(lines, at, indent) {
  if (lines[at + 1] !== `${indent}  ---`) return []
  const block = []
  for (let next = at + 2; next < lines.length && lines[next] !== `${indent}  ...`; next++) {
    block.push(lines[next].slice(indent.length + 2))
  }
  return block
}
