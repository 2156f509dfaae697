/**
 * The names of one directory that differ from its base, and the merge of both.
 *
 * A dentry overrides the base entry of its name; a whiteout hides it. Names of the base keep their
 * rank as their place in a listing, also when they were overridden, or removed and made again.
 * Names that only exist here come after them in the order in which they were made, each with a
 * sequence number that is never given twice, so that a cookie says where to go on whatever happened
 * since. When the base beneath changes (rebase.ts), ranks go on to be those of the first one, as
 * long as the kernel knows the directory: what shows through a later base showed through that one.
 */

import { isDirectory } from "../overlay/inode.ts";
import type { Dentry } from "../overlay/store.ts";
import type { Name } from "../path.ts";
import type { BaseEntry, Directory } from "./directory.ts";

/** What a name leads to, by the overlay's word. */
export interface OverlayEntry {
  /** Null: a whiteout. */
  readonly ino: number | null;
  /** st_mode, of which only the kind is kept true. */
  readonly mode: number;
  /** Place among the names that only exist here; -1: a name of the base. */
  readonly sequence: number;
}

const WHITEOUT: OverlayEntry = { ino: null, mode: 0, sequence: -1 };

/** An entry as it shows: the overlay's or the base's. */
export type MergedEntry =
  | { readonly from: "overlay"; readonly ino: number; readonly mode: number }
  | { readonly from: "base"; readonly entry: BaseEntry };

/** The one rule: what a name shows, if anything. */
export function mergedEntry(
  name: Name,
  base: Directory | null,
  overlay: OverlayEntries | null,
): MergedEntry | undefined {
  const over = overlay?.get(name);
  if (over !== undefined) {
    return over.ino === null ? undefined : { from: "overlay", ino: over.ino, mode: over.mode };
  }
  const entry = base?.get(name);
  return entry === undefined ? undefined : { from: "base", entry };
}

export class OverlayEntries {
  readonly #byName = new Map<Name, OverlayEntry>();
  /** The base whose names have ranks; undefined: the one that is beneath. */
  #ranked: Directory | null | undefined;
  /** Names that only exist here by sequence; removed ones are null until there are many. */
  #added: { readonly sequence: number; name: Name | null }[] = [];
  #removed = 0;
  #nextSequence = 0;
  /** Names that show. */
  visibleCount: number;
  /** Directories among them. */
  subdirectories: number;

  constructor(base: Directory | null, dentries: readonly Dentry[] = []) {
    this.visibleCount = base?.entries.length ?? 0;
    this.subdirectories = base?.subdirectories ?? 0;
    for (const { name, ino, mode } of dentries) {
      if (ino === null) this.hide(base, name);
      else this.put(base, name, ino, mode);
    }
  }

  get(name: Name): OverlayEntry | undefined {
    return this.#byName.get(name);
  }

  [Symbol.iterator](): IterableIterator<[Name, OverlayEntry]> {
    return this.#byName.entries();
  }

  /** The base whose names have ranks in a listing. */
  rankedOf(base: Directory | null): Directory | null {
    return this.#ranked === undefined ? base : this.#ranked;
  }

  /** `name` leads to this inode now, whatever it did before. */
  put(base: Directory | null, name: Name, ino: number, mode: number): void {
    this.#discount(base, name);
    let sequence = this.#byName.get(name)?.sequence ?? -1;
    if (sequence < 0 && this.rankedOf(base)?.get(name) === undefined) {
      sequence = this.#nextSequence++;
      this.#added.push({ sequence, name });
    }
    this.#byName.set(name, { ino, mode, sequence });
    this.visibleCount++;
    if (isDirectory({ mode })) this.subdirectories++;
  }

  /** `name` leads nowhere now. */
  hide(base: Directory | null, name: Name): void {
    this.#discount(base, name);
    const before = this.#byName.get(name);
    if (before !== undefined && before.sequence >= 0) this.#removeAdded(before.sequence);
    if (base?.get(name) !== undefined) this.#byName.set(name, WHITEOUT);
    else this.#byName.delete(name);
  }

  /** A whiteout for a name that nothing shows, and that the next base has. */
  cover(name: Name): void {
    this.#byName.set(name, WHITEOUT);
  }

  /** The whiteout of a name that the base does not have any more goes. */
  uncover(name: Name): void {
    if (this.#byName.get(name)?.ino === null) this.#byName.delete(name);
  }

  /** Another base is beneath from now on, and shows what `before` did. */
  rebase(before: Directory | null): void {
    if (this.#ranked === undefined) this.#ranked = before;
  }

  /** Names that only exist here, with a sequence of at least `from`, in order. */
  *addedFrom(from: number): Generator<{ name: Name; entry: OverlayEntry }> {
    for (let i = this.#indexOf(from); i < this.#added.length; i++) {
      const name = this.#added[i]?.name ?? null;
      if (name === null) continue;
      yield { name, entry: this.#byName.get(name) as OverlayEntry };
    }
  }

  #discount(base: Directory | null, name: Name): void {
    const shown = mergedEntry(name, base, this);
    if (shown === undefined) return;
    this.visibleCount--;
    if (isDirectoryEntry(shown)) this.subdirectories--;
  }

  #removeAdded(sequence: number): void {
    const added = this.#added[this.#indexOf(sequence)];
    if (added === undefined) return;
    added.name = null;
    this.#removed++;
    if (this.#removed < 32 || this.#removed * 2 < this.#added.length) return;
    this.#added = this.#added.filter(({ name }) => name !== null);
    this.#removed = 0;
  }

  /** Of the first one with this sequence or a later one. */
  #indexOf(sequence: number): number {
    let low = 0;
    let high = this.#added.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#added[middle] as { sequence: number }).sequence < sequence) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

export function isDirectoryEntry(entry: MergedEntry): boolean {
  if (entry.from === "overlay") return isDirectory(entry);
  return entry.entry.kind === "directory" || entry.entry.kind === "gitlink";
}
