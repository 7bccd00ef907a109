/**
 * The actions that undo a run: end its processes, remove its folder. They run at the end of the run, after an error and
 * after Ctrl-C, in the reverse order of their registration.
 */
export type Undo = () => unknown

export class Cleanup {
  #undos: Undo[] = []
  #running: Promise<void> | null = null

  /** An `undo` that rejects does not keep the others from running. Each is awaited before the next one starts. */
  defer(undo: Undo): void {
    this.#undos.push(undo)
  }

  /** Runs every action once. Later calls wait for the first one. `onError` gets each error. */
  async run(onError: (error: unknown) => void): Promise<void> {
    this.#running ??= this.#drain(onError)
    await this.#running
  }

  async #drain(onError: (error: unknown) => void): Promise<void> {
    for (let undo = this.#undos.pop(); undo; undo = this.#undos.pop()) {
      try {
        await undo()
      } catch (error) {
        onError(error)
      }
    }
  }
}
