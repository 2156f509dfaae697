/**
 * Which small blobs a sequential reader will want next. A read of one cold file is a round trip
 * through three threads and git; a reader of a whole tree (tar, grep, a compiler) should not pay it
 * for every file. Sequential means: the directory of each read is near that of the one before. The
 * next batch is read while the reader is busy with the last (`more`).
 */

import type { Oid } from "../git/oid.ts";
import type { Lookahead } from "./lookahead.ts";

/** Directories between two reads that still count as sequential. */
const NEAR = 24;
/** Sequential reads before anything is read ahead. */
const STREAK_MIN = 3;
const BLOBS_FIRST = 8;
const BLOBS_MAX = 256;
/** A bigger blob is left to the reader. */
const BLOB_BYTES_MAX = 128 * 1024;
const BYTES_MAX = 4 * 1024 * 1024;
/** Blobs looked at for one batch, so that it ends in a tree that was read before. */
const LOOKED_AT_MAX = 1024;
/** What was handed out is remembered so far back. */
const GIVEN_MAX = 20_000;

/** The known sizes among many. */
export type SizesOf = (oids: readonly Oid[]) => ReadonlyMap<Oid, number>;

export class Readahead {
  readonly #sizesOf: SizesOf;
  readonly #lookahead: Lookahead;
  /** Where the next batch starts, and where a sequential reader is expected; null: nowhere. */
  #cursor: { treeOid: Oid; blobOid: Oid } | null = null;
  #streak = 0;
  #count = BLOBS_FIRST;
  /** Handed out in this streak. */
  readonly #given = new Set<Oid>();

  constructor(sizesOf: SizesOf, lookahead: Lookahead) {
    this.#sizesOf = sizesOf;
    this.#lookahead = lookahead;
  }

  /** What to read along with a read of `blobOid` in the directory `treeOid`. */
  after(treeOid: Oid, blobOid: Oid): Oid[] {
    const last = this.#cursor?.treeOid;
    this.#cursor = { treeOid, blobOid };
    const distance = last === undefined ? null : this.#lookahead.distance(last, treeOid);
    if (distance === null || distance > NEAR) {
      this.#streak = 0;
      this.#count = BLOBS_FIRST;
      this.#given.clear();
      return [];
    }
    return ++this.#streak < STREAK_MIN ? [] : this.more();
  }

  /** What comes then: the reader has begun with what it was given last. */
  more(): Oid[] {
    if (this.#cursor === null) return [];
    const { treeOid, blobOid } = this.#cursor;
    if (this.#given.size > GIVEN_MAX) this.#given.clear();
    const candidates: Oid[] = [];
    let looked = 0;
    for (const [oid, directoryOid] of this.#lookahead.after(treeOid, blobOid)) {
      if (candidates.length >= this.#count || ++looked > LOOKED_AT_MAX) break;
      if (oid === blobOid || this.#given.has(oid)) continue;
      candidates.push(oid);
      this.#cursor = { treeOid: directoryOid, blobOid: oid };
    }
    this.#count = Math.min(BLOBS_MAX, this.#count * 2);
    return this.#smallOnes(candidates);
  }

  #smallOnes(candidates: readonly Oid[]): Oid[] {
    const sizes = this.#sizesOf(candidates);
    const oids: Oid[] = [];
    let bytes = 0;
    for (const oid of new Set(candidates)) {
      const size = sizes.get(oid);
      if (size === undefined || size > BLOB_BYTES_MAX || bytes + size > BYTES_MAX) continue;
      this.#given.add(oid);
      oids.push(oid);
      bytes += size;
    }
    return oids;
  }
}
