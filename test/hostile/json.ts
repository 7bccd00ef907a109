/** JSON text of nested arrays with this depth. */
export const deepJson = (levels: number): string => `${'['.repeat(levels)}${']'.repeat(levels)}`
