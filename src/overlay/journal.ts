/**
 * What changed in the work tree, in order, so that "since when" has an answer: git's file monitor
 * asks so. A *token* is `<id>-<sequence>`: every change after it has a higher sequence.
 *
 * Invariants
 *  1. A change's row is committed before, or with, what it tells of.
 *  2. A sequence in a token is never given to a later change. So after a power failure, which may
 *     take rows away whose tokens git has kept, there is a new id, and all older tokens are
 *     unknown. It is noticed by the boot's id; that somebody has it open is durable before the
 *     first row.
 *  3. A token that is unknown, too old, or from the future has no answer: everything may have
 *     changed.
 *
 * Whoever changes something may leave the row out when an equal one was written after the last
 * token that was given out, or `cut` (`issued`): every token that is about is older than that row.
 *
 * Rows that a later one of the same path makes superfluous are removed when there are many; if
 * there are still too many, the oldest go, and tokens that would need them are too old. That is
 * looked after when somebody asks and, since nobody may for weeks, before rows are written.
 */

import type { JournalRow, OverlayStore } from "./store.ts";

export const CHANGED = {
  /** This path, or what is below it, as far as git knows it: made, removed, or another content. */
  path: 0,
  /** A directory was made here, or names in it changed that are not in rows of their own. */
  directory: 1,
  /** A directory came here as a whole: every directory that is below it now, too. */
  subtree: 2,
} as const;

/** Rows that are kept, at least. A longer answer costs git more than looking at everything. */
const ROWS_MAX = 50_000;

export interface JournalOptions {
  /** Of the first tokens, in a layer where nothing was ever changed; hex digits. */
  readonly firstId: string;
  /** Another one after each start of the machine. */
  readonly bootId: string;
  /** Whoever had the layer open last has closed it. */
  readonly wasClean: boolean;
  readonly rowsMax?: number;
}

export class Journal {
  readonly #store: OverlayStore;
  readonly #id: string;
  readonly #rowsMax: number;
  /** Rows written since they were last counted. */
  #rows: number;
  #floor: number;
  #sequence: number;
  #issued: number;
  #isMarked = false;

  constructor(store: OverlayStore, options: JournalOptions) {
    const { firstId, bootId, wasClean } = options;
    this.#store = store;
    this.#rowsMax = options.rowsMax ?? ROWS_MAX;
    const before = store.journalMeta();
    const isLost = before === null ? !store.isEmpty() : !wasClean && before.bootId !== bootId;
    this.#id = isLost ? newId() : before?.id ?? firstId;
    this.#floor = before?.floor ?? 0;
    this.#sequence = Math.max(this.#floor, store.lastSequence());
    this.#issued = this.#sequence;
    this.#rows = this.#sequence - this.#floor;
    if (before?.id !== this.#id || before.bootId !== bootId) {
      store.putJournalMeta({ id: this.#id, bootId, floor: this.#floor });
    }
  }

  /** Where it was cut last: what has a row after it needs no second one. */
  get issued(): number {
    return this.#issued;
  }

  /** Of the newest row. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Before rows are written, outside of a transaction. May throw what SQLite throws. */
  mark(): void {
    this.#compact(4);
    if (this.#isMarked) return;
    this.#store.sync();
    this.#isMarked = true;
  }

  /** In a transaction; `wrote` follows when it is committed. */
  write(rows: readonly JournalRow[]): void {
    rows.forEach((row, i) => this.#store.putJournal(this.#sequence + 1 + i, row));
  }

  wrote(rows: readonly JournalRow[]): void {
    this.#sequence += rows.length;
    this.#rows += rows.length;
  }

  /** As if a token had been given out: what changes from here on has rows of its own. */
  cut(): void {
    this.#issued = this.#sequence;
  }

  /** A token for what is now, or for what was before, at a sequence that was cut at. */
  issue(atMost = Infinity): string {
    this.cut();
    return `${this.#id}-${Math.min(this.#sequence, atMost)}`;
  }

  /** What changed after a token; null: everything may have. */
  since(token: string): JournalRow[] | null {
    const [, id, digits = ""] = /^([0-9a-f]+)-(\d{1,15})$/.exec(token) ?? [];
    const sequence = Number(digits);
    if (id !== this.#id || sequence > this.#sequence) return null;
    this.#compact(2);
    if (sequence < this.#floor) return null;
    const rows = this.#store.journalSince(sequence, this.#rowsMax + 1);
    return rows.length > this.#rowsMax ? null : rows;
  }

  /** When there are more than so many times what is kept. */
  #compact(times: number): void {
    if (this.#rows <= times * this.#rowsMax) return;
    try {
      this.#store.compactJournal(this.#rowsMax);
    } catch {
      // A full disk: there is more to read meanwhile, and nothing is wrong. Not again at each row.
      this.#rows -= this.#rowsMax;
      return;
    }
    this.#rows = this.#rowsMax;
    this.#floor = this.#store.journalMeta()?.floor ?? this.#floor;
  }
}

function newId(): string {
  return crypto.getRandomValues(new Uint8Array(8)).toHex();
}
