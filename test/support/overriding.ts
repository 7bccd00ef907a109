/** Wraps an object and replaces some of its methods, for a part that differs in one behaviour. */
export function overriding<T extends object>(target: T, own: Partial<T>): T {
  return new Proxy(target, {
    get: (_, name) => {
      const value: unknown = Reflect.get(Reflect.has(own, name) ? own : target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
