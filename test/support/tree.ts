import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import ts from 'typescript'

/** A source file, as the tests of the rules of the tree read it. Paths are relative to the repository, with `/`. */
export interface SourceFile {
  path: string
  text: string
  lines: number
  /** Names of packages, and files of this repository as paths ending in `.ts`. */
  imports: string[]
}

export function sourceFiles(folders: readonly string[]): SourceFile[] {
  return folders.flatMap(pathsUnder).map((path) => {
    const text = readFileSync(path, 'utf8')
    const { importedFiles } = ts.preProcessFile(text, true, true)
    return {
      path,
      text,
      lines: text.split('\n').length - 1,
      imports: importedFiles.map(({ fileName }) => resolveImport(path, fileName)),
    }
  })
}

function pathsUnder(folder: string): string[] {
  const entries = readdirSync(folder, { withFileTypes: true })
  return entries.flatMap((entry) => {
    const path = posix.join(folder, entry.name)
    if (entry.isDirectory()) return entry.name === 'generated' ? [] : pathsUnder(path)
    return /\.(ts|mjs)$/.test(entry.name) ? [path] : []
  })
}

function resolveImport(from: string, name: string): string {
  if (!name.startsWith('.')) return name
  return join(dirname(from), name).replace(/\.js$/, '.ts')
}

/** The uses of the machine's time, timers and random source in a file, as `line: call`. */
export function surroundingsUsed({ path, text }: SourceFile): string[] {
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.ES2022, true)
  const found: string[] = []
  const visit = (node: ts.Node): void => {
    const call = surroundingOf(node)
    if (call !== null) found.push(`${file.getLineAndCharacterOfPosition(node.getStart()).line + 1}: ${call}`)
    ts.forEachChild(node, visit)
  }
  visit(file)
  return found
}

const ambientFunctions = new Set(['setTimeout', 'setInterval', 'setImmediate'])
const ambientMembers = new Set(['Date.now', 'Math.random', 'performance.now', 'process.hrtime', 'process.uptime'])

function surroundingOf(node: ts.Node): string | null {
  if (ts.isNewExpression(node) && node.expression.getText() === 'Date' && (node.arguments?.length ?? 0) === 0) {
    return 'new Date()'
  }
  if (ts.isPropertyAccessExpression(node) && ambientMembers.has(node.getText())) return node.getText()
  if (ts.isCallExpression(node) && ambientFunctions.has(node.expression.getText())) return node.expression.getText()
  return null
}

/** Groups of nodes that reach each other (strongly connected components of more than one node), each sorted. */
export function circlesIn(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const order = new Map<string, number>()
  const lowest = new Map<string, number>()
  const open: string[] = []
  const circles: string[][] = []
  const lower = (node: string, to: number) => lowest.set(node, Math.min(lowest.get(node) ?? to, to))
  const visit = (node: string): void => {
    order.set(node, order.size)
    lower(node, order.size - 1)
    open.push(node)
    for (const next of graph.get(node) ?? []) {
      if (!order.has(next)) {
        visit(next)
        lower(node, lowest.get(next) as number)
      } else if (open.includes(next)) lower(node, order.get(next) as number)
    }
    if (lowest.get(node) !== order.get(node)) return
    const members = open.splice(open.indexOf(node))
    if (members.length > 1) circles.push(members.sort())
  }
  for (const node of graph.keys()) if (!order.has(node)) visit(node)
  return circles
}
