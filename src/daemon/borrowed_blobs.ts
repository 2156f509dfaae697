/**
 * Imports what a mount has read in its user's git directory, so that it stays when the user's git
 * removes it. Nobody waits for it: after a pause, so many at a time that others who import have
 * their turn.
 *
 *   state      event                   next
 *   idle       add                     waiting
 *   waiting    PAUSE_MS later          importing
 *   importing  done, none left         idle; the mount is told
 *   importing  done, or failed         importing the next; the mount is told
 *   any        stop                    ended
 *
 * What could not be imported is served from where it is, and asked for when it has gone.
 */

import { systemClock } from "../clock.ts";
import { Failure, messageOf } from "../failure.ts";
import { importObjects, type ImportOptions } from "../git/import.ts";
import type { Oid } from "../git/oid.ts";
import { logger } from "../log.ts";

const PAUSE_MS = 500;
const AT_ONCE = 2000;

export class BorrowedBlobs {
  readonly #source: ImportOptions;
  readonly #onImported: () => void;
  readonly #stopping = new AbortController();
  #waiting: Oid[] = [];
  #running: Promise<void> | null = null;
  readonly #log = logger("base");

  constructor(source: Omit<ImportOptions, "signal">, onImported: () => void) {
    this.#source = { ...source, signal: this.#stopping.signal };
    this.#onImported = onImported;
  }

  add(oid: Oid): void {
    this.#waiting.push(oid);
    if (this.#stopping.signal.aborted) return;
    this.#running ??= this.#run().finally(() => this.#running = null);
  }

  /** Resolves when nothing of it runs. */
  async stop(): Promise<void> {
    this.#stopping.abort(new Failure("not-mounted", "Cannot import: the mount is gone"));
    await this.#running;
  }

  /** Never throws. */
  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (this.#waiting.length > 0 && !signal.aborted) {
      // One that was stopped has no more to wait for.
      await systemClock.sleep(PAUSE_MS, signal).catch(() => {});
      const blobOids = this.#waiting.splice(0, AT_ONCE);
      try {
        const count = await importObjects(this.#source, { treeOids: [], blobOids });
        this.#log.debug("Borrowed blobs imported", { count });
        this.#onImported();
      } catch (error) {
        if (signal.aborted) return;
        this.#log.debug("Borrowed blobs not imported", { error: messageOf(error) });
      }
    }
  }
}
