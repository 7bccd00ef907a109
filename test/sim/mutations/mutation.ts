/** A deliberate break: what it does to the rules, and the text to replace in the compiled tree. */
export interface Mutation {
  name: string
  /** The rule that it breaks. */
  rule: string
  /** The test that is made for this rule, below dist/test: it is asked first. */
  test?: string
  edits: Edit[]
}

/** Breaks of one part, and the tests of that part: they have a say where the simulation would need too many seeds. */
export interface Family {
  mutations: Mutation[]
  /** Below dist/test. */
  tests: string[]
}

export interface Edit {
  /** Below dist/. */
  file: string
  /** Has to be there exactly once. */
  find: string
  replace: string
}

export function edit(file: string, find: string, replace: string): Edit {
  return { file: `src/${file}.js`, find, replace }
}
