/**
 * Which small blobs a sequential reader will want next. A read of one cold file is a round trip
 * through three threads and git; a reader of a whole tree (tar, grep, a compiler) should not pay it
 * for every file. Sequential means: the directory of each read is near that of the one before.
 */

import type { Oid } from "../git/oid.ts";
import type { BaseStore } from "../snapshot/store.ts";
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

export class Readahead {
  readonly #base: BaseStore;
  readonly #lookahead: Lookahead;
  #lastTreeOid: Oid | null = null;
  #streak = 0;
  #count = BLOBS_FIRST;
  /** Handed out in this streak. */
  readonly #given = new Set<Oid>();

  constructor(base: BaseStore, lookahead: Lookahead) {
    this.#base = base;
    this.#lookahead = lookahead;
  }

  /** What to read along with a read of `blobOid` in the directory `treeOid`. */
  after(treeOid: Oid, blobOid: Oid): Oid[] {
    const last = this.#lastTreeOid;
    this.#lastTreeOid = treeOid;
    const distance = last === null ? null : this.#lookahead.distance(last, treeOid);
    if (distance === null || distance > NEAR) {
      this.#streak = 0;
      this.#count = BLOBS_FIRST;
      this.#given.clear();
      return [];
    }
    if (++this.#streak < STREAK_MIN) return [];
    const { oids, end } = this.#batch(treeOid, blobOid);
    this.#lastTreeOid = end;
    this.#count = Math.min(BLOBS_MAX, this.#count * 2);
    return oids;
  }

  /** `end`: the directory of the last one, where a sequential reader will ask next. */
  #batch(treeOid: Oid, blobOid: Oid): { oids: Oid[]; end: Oid } {
    const candidates: Oid[] = [];
    let looked = 0;
    let end = treeOid;
    for (const [oid, directoryOid] of this.#lookahead.after(treeOid, blobOid)) {
      if (candidates.length >= this.#count || ++looked > LOOKED_AT_MAX) break;
      if (oid === blobOid || this.#given.has(oid)) continue;
      candidates.push(oid);
      end = directoryOid;
    }
    const sizes = this.#base.sizes(candidates);
    const oids: Oid[] = [];
    let bytes = 0;
    for (const oid of new Set(candidates)) {
      const size = sizes.get(oid);
      if (size === undefined || size > BLOB_BYTES_MAX || bytes + size > BYTES_MAX) continue;
      this.#given.add(oid);
      oids.push(oid);
      bytes += size;
    }
    return { oids, end };
  }
}
