/** Serialises work by key within one thread: what two verbs do to one thing does not interleave. */

import { orAborted } from "./clock.ts";

export class KeyedLock {
  /** The end of each key's queue. */
  readonly #tails = new Map<string, Promise<void>>();

  /** Keys that something is done to. */
  get busyCount(): number {
    return this.#tails.size;
  }

  /** Runs `work` when all before it with this key have ended. Throws the signal's reason. */
  async run<T>(key: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const done = Promise.withResolvers<void>();
    const tail = before.then(() => done.promise);
    this.#tails.set(key, tail);
    try {
      await (signal === undefined ? before : orAborted(before, signal));
      return await work();
    } finally {
      done.resolve();
      // Not before the ones ahead have ended: who was aborted while waiting is still behind them.
      tail.then(() => {
        if (this.#tails.get(key) === tail) this.#tails.delete(key);
      });
    }
  }
}
