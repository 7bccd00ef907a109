/**
 * A flow is a list of named steps: `flow(limit, send, answer)`. Each step takes the result of the step before it, so that
 * the compiler refuses a step that needs an authenticated caller before `authenticate`. A step ends the flow by throwing
 * a CodedError.
 */
export type Step<In, Out> = (input: In) => Out | Promise<Out>
export type Flow<In, Out> = (input: In) => Promise<Out>

export function flow<A, B, C>(a: Step<A, B>, b: Step<B, C>): Flow<A, C>
export function flow<A, B, C, D>(a: Step<A, B>, b: Step<B, C>, c: Step<C, D>): Flow<A, D>
export function flow<A, B, C, D, E>(a: Step<A, B>, b: Step<B, C>, c: Step<C, D>, d: Step<D, E>): Flow<A, E>
export function flow<A, B, C, D, E, F>(
  a: Step<A, B>,
  b: Step<B, C>,
  c: Step<C, D>,
  d: Step<D, E>,
  e: Step<E, F>,
): Flow<A, F>
export function flow<A, B, C, D, E, F, G>(
  a: Step<A, B>,
  b: Step<B, C>,
  c: Step<C, D>,
  d: Step<D, E>,
  e: Step<E, F>,
  f: Step<F, G>,
): Flow<A, G>
export function flow<A, B, C, D, E, F, G, H>(
  a: Step<A, B>,
  b: Step<B, C>,
  c: Step<C, D>,
  d: Step<D, E>,
  e: Step<E, F>,
  f: Step<F, G>,
  g: Step<G, H>,
): Flow<A, H>
export function flow(...steps: Step<unknown, unknown>[]): Flow<unknown, unknown> {
  return async (input) => {
    let value = input
    for (const step of steps) value = await step(value)
    return value
  }
}
