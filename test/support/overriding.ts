/** Returns `target` with some of its members replaced by those of `own`. */
export function overriding<T extends object>(target: T, own: Partial<T>): T {
  return new Proxy(target, {
    get: (_, name) => {
      const value: unknown = Reflect.get(Reflect.has(own, name) ? own : target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
