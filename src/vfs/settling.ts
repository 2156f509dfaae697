/**
 * Names that have changed here, and that the kernel may still show as they were.
 *
 * Whoever makes, removes or moves a name holds the locks of the directories concerned from before
 * the request until after the kernel has changed its own names (fs/namei.c; vfs_unlink: d_delete,
 * vfs_rename: d_move). The reply is written somewhere between, and its reader may be kept waiting:
 * a git that hears of the path in that moment finds the old name, and believes it from then on. So
 *
 *  1. the kernel is asked to come by at those directories (`ViewOptions.settle`), which waits for
 *     their locks: what was changed there before has *settled* when it comes back;
 *  2. a token that is given out is never newer than a change that has not settled: git hears of its
 *     path again with the next answer.
 *
 * The second is what makes it right, the first what lets tokens move on. So an answer waits for the
 * first a moment (`SETTLE_MS` in src/mount/notifier.ts), and no longer: somebody may hold a directory
 * who waits for the network.
 *
 *   state    event                                    next     what an answer does
 *   idle     it comes, and something has not settled  asking   waits
 *   asking   settled(true)                            idle     looks again: what came meanwhile is
 *                                                              not waited for, and holds it back
 *   asking   settled(false): it takes long            late     does not wait
 *   late     settled(true)                            idle
 *
 * Of each directory only the last change can be under way: it was asked for with the lock that the
 * one before has given back. One is enough to remember, and which name it was: that is in the
 * kernel's cache for as long as it is being changed. Of a directory that is gone nothing is under
 * way: who removes it holds its own lock, too, and who changes names in it keeps the kernel from
 * forgetting it.
 */

import type { Name } from "../path.ts";
import type { Node } from "./node_table.ts";
import type { View } from "./view.ts";

/** What an answer waits for. */
export const SETTLE_KEY = "settle";
/** So many directories are looked through for those that are gone. */
const DIRECTORIES_MAX = 10_000;

export interface ChangedName {
  readonly parentNodeid: number;
  readonly name: Name;
}

interface Unsettled {
  readonly parent: Node;
  readonly name: Name;
  /** A sequence of the journal: whatever tells of it has a higher one. */
  readonly since: number;
  /** Of all changes so far. */
  readonly number: number;
}

export class Settling {
  readonly #view: View;
  /** By directory, oldest first: `since` and `number` rise. */
  readonly #unsettled = new Map<number, Unsettled>();
  #directoriesMax = DIRECTORIES_MAX;
  #count = 0;
  #state: "idle" | "asking" | "late" = "idle";
  /** What was changed up to here was asked about. */
  #asked = 0;

  constructor(view: View) {
    this.#view = view;
  }

  /** Changes so far. */
  get count(): number {
    return this.#count;
  }

  /** A token that is given out must not be newer. */
  get heldAt(): number {
    return this.#oldest()?.since ?? Infinity;
  }

  /** Something is different at this name; the journal says so. */
  changed(parent: Node, name: Name): void {
    this.#unsettled.delete(parent.nodeid);
    const { issued } = this.#view.overlay.journal;
    this.#unsettled.set(parent.nodeid, { parent, name, since: issued, number: ++this.#count });
    if (this.#unsettled.size <= this.#directoriesMax) return;
    this.#dropGone();
    this.#directoriesMax = 2 * this.#unsettled.size + DIRECTORIES_MAX;
  }

  /** An answer that came after so many changes waits no longer; else the kernel is asked. */
  mayAnswer(count: number): boolean {
    const oldest = this.#oldest();
    if (this.#state === "late" || oldest === undefined || oldest.number > count) return true;
    return this.#state === "idle" && !this.#ask();
  }

  /** The kernel has been where it was asked to, or takes long. */
  settled(isThrough: boolean): void {
    this.#state = isThrough ? "idle" : "late";
    if (!isThrough) return;
    for (const [nodeid, { number }] of this.#unsettled) {
      if (number <= this.#asked) this.#unsettled.delete(nodeid);
    }
  }

  /** False: it cannot be asked. */
  #ask(): boolean {
    this.#dropGone();
    const names = this.#unsettled.values().map(({ parent, name }): ChangedName => ({
      parentNodeid: parent.nodeid,
      name,
    }));
    if (!this.#view.options.settle([...names])) return false;
    this.#state = "asking";
    this.#asked = this.#count;
    // What changes from here on need not hold back what was changed before.
    this.#view.overlay.journal.cut();
    return true;
  }

  #oldest(): Unsettled | undefined {
    for (const [nodeid, unsettled] of this.#unsettled) {
      if (!this.#isGone(unsettled)) return unsettled;
      this.#unsettled.delete(nodeid);
    }
    return undefined;
  }

  #dropGone(): void {
    for (const [nodeid, unsettled] of this.#unsettled) {
      if (this.#isGone(unsettled)) this.#unsettled.delete(nodeid);
    }
  }

  #isGone({ parent }: Unsettled): boolean {
    return parent.unlinked || this.#view.nodes.get(parent.nodeid) !== parent;
  }
}
