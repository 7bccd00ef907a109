/**
 * What a run started and has to end, whatever ends the run: its own end, an error, Ctrl-C. Last in, first out.
 */
export type Undo = () => unknown

export class Cleanup {
  #undos: Undo[] = []
  #running: Promise<void> | null = null

  /** `undo` may reject; the others run all the same. Resolves what it returns before the one deferred earlier. */
  defer(undo: Undo): void {
    this.#undos.push(undo)
  }

  /** Runs everything once; later calls wait for the same run. Resolves with the errors. */
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
