/** A mutation breaks one rule of the design on purpose, by replacing text of the compiled product. */
export interface Mutation {
  name: string
  /** The rule that it breaks. */
  rule: string
  /** The test of this rule, relative to dist/test; it runs first. */
  test?: string
  edits: Edit[]
}

/** The mutations of one part, and the tests of that part, which run if the simulation does not catch a mutation. */
export interface Family {
  mutations: Mutation[]
  /** Relative to dist/test. */
  tests: string[]
}

export interface Edit {
  /** Relative to dist/. */
  file: string
  /** Must occur exactly once in the file. */
  find: string
  replace: string
}

export function edit(file: string, find: string, replace: string): Edit {
  return { file: `src/${file}.js`, find, replace }
}
