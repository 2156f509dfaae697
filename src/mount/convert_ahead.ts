/**
 * What is converted together with a file that somebody looks at: what is ready in its directory,
 * and, when somebody walks the tree, what is ready in the directories that follow. A walk is seen
 * by where the next one falls: in one of the directories behind those that were taken last. So
 * reads that are scattered stay one directory each, and a walk takes few runs of git.
 */

import { type BaseId, isConverted } from "../git/base_id.ts";
import type { Directory } from "../vfs/directory.ts";

/** Files of one run: some tenths of a second. */
const FILES_MAX = 1000;
const GROWTH = 4;
const DIRECTORIES_MAX = 256;
/** Directories behind the last ones that still count as the same walk. */
const NEAR = 24;

export interface Convertible {
  directoryAtHand(treeId: BaseId): Directory | undefined;
  /** "ready": it can be converted now. "missing": its blob is not here. "other": no need to. */
  stateOf(id: BaseId): "ready" | "missing" | "other";
}

export class ConvertAhead {
  readonly #files: Convertible;
  /** Directories taken together. */
  #width = 1;
  /** Where the next one falls, if it is a walk. */
  #next: ReadonlySet<BaseId> = new Set();

  constructor(files: Convertible) {
    this.#files = files;
  }

  /** `id`, and what goes along. `treeIds`: from the root to its directory. */
  with(id: BaseId, treeIds: readonly BaseId[]): BaseId[] {
    const own = treeIds.at(-1);
    if (own === undefined) return [id];
    this.#width = this.#next.has(own) ? Math.min(this.#width * GROWTH, DIRECTORIES_MAX) : 1;
    const taken = new Set([id]);
    const next = new Set<BaseId>();
    let left = this.#width;
    for (const treeId of this.#from(treeIds)) {
      const whole = left > 0 && this.#take(treeId, taken);
      left = whole ? left - 1 : 0;
      if (!whole) next.add(treeId);
      if (next.size === NEAR) break;
    }
    this.#next = next;
    return [...taken];
  }

  /** Whether all of it was, as far as there is a need. */
  #take(treeId: BaseId, taken: Set<BaseId>): boolean {
    let whole = true;
    for (const { kind, oid } of this.#files.directoryAtHand(treeId)?.entries ?? []) {
      if (kind === "directory" || !isConverted(oid) || taken.has(oid)) continue;
      const state = this.#files.stateOf(oid);
      if (state === "missing") whole = false;
      if (state !== "ready") continue;
      if (taken.size === FILES_MAX) return false;
      taken.add(oid);
    }
    return whole;
  }

  /** A directory, those below it, and those that follow, as a walk of the tree goes. */
  *#from(treeIds: readonly BaseId[]): Generator<BaseId> {
    const own = treeIds.at(-1) as BaseId;
    yield own;
    yield* this.#below(own, null);
    for (let depth = treeIds.length - 2; depth >= 0; depth--) {
      yield* this.#below(treeIds[depth] as BaseId, treeIds[depth + 1] as BaseId);
    }
  }

  /** Behind the entry `after`; null: all. */
  *#below(treeId: BaseId, after: BaseId | null): Generator<BaseId> {
    const entries = this.#files.directoryAtHand(treeId)?.entries ?? [];
    const from = after === null ? 0 : entries.findIndex(({ oid }) => oid === after) + 1;
    for (const { kind, oid } of entries.slice(from)) {
      // In others nothing is converted.
      if (kind !== "directory" || !isConverted(oid)) continue;
      yield oid;
      yield* this.#below(oid, null);
    }
  }
}
