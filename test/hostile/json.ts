/** Arrays in arrays, so deep. */
export const deepJson = (levels: number): string => `${'['.repeat(levels)}${']'.repeat(levels)}`
