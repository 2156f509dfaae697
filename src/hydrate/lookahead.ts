/**
 * What else a miss should bring: the rest of its directory always, the neighbouring directories
 * when somebody walks the tree, everything when a walk goes on or reads contents.
 *
 * A walk is seen by where misses fall: one within NEAR directories of the last window's end, in the
 * tree's own preorder (which find, tar, grep -r and ls -R follow, but for sorting), makes the next
 * window WINDOW_GROWTH times larger; any other miss starts again at one directory. So reads
 * scattered over a tree stay one directory each. Three things bring the rest at once: a near miss
 * after everything that the last window brought was read, or after many of it were as soon as they
 * had come (scans of contents), and a burst of misses, wherever they fall (many threads that walk,
 * as `git status` has).
 *
 * A walk may leave much out: git looks at the files that a checkout replaces, in the order of its
 * index. It is a *streak*: one miss at a time, each soon after the last one's blobs came, each
 * further on in the tree. From the STREAK_MIN-th on, the directories from one miss to the next, on
 * average, say how many the first window needs; each one after it is STREAK_GROWTH times larger. So
 * what it brings follows from what was walked through, and is never all the rest for that reason.
 * A streak that leaves out more than a window is worth goes on one directory at a time, and its
 * misses are no burst.
 */

import { LRUCache } from "lru-cache";
import type { ObjectFormat, Oid } from "../git/oid.ts";
import { ATTRIBUTES_FILE, IGNORE_FILE } from "../git/rule_files.ts";
import { parseTree } from "../git/tree.ts";
import type { BaseStore } from "../snapshot/store.ts";

/** Incomplete directories after (or before) the last window that still count as the same walk. */
const NEAR = 24;
const WINDOW_GROWTH = 4;
/** From this window on, the rest of the tree is wanted. */
const WINDOW_ALL = 256;
/** With contents being read, the rest is wanted earlier. */
const WINDOW_ALL_READING = 16;
/** Share of a window that is read before the next miss, from which on a reader reads everything. */
const READ_SHARE = 0.8;
/** Windows with fewer blobs say nothing about a reader. */
const READ_MIN_BLOBS = 4;
/** Who reads so many files so soon after they came is a program that goes through the tree. */
const HURRY_MIN_BLOBS = 8;
const HURRY_MS = 250;
/** Misses of a streak from which on it is a walk. */
const STREAK_MIN = 3;
/** Misses that its first window spares; those after it are so many times larger. */
const STREAK_WINDOW = 4;
const STREAK_GROWTH = 6;
/** Directories from one miss to the next for which a window is worth its bytes, at most. */
const STRIDE_MAX = 128;
/** A tree has room for so many such misses at least: else they are somebody's who picks files. */
const STREAK_TREE_MISSES = 32;
/** A walk with a longer stride leaves out too much for asking for all the rest. */
const STRIDE_DENSE = 4;
/**
 * So many misses in so short a time, or each HURRY_MS after something came at most, are more than
 * somebody who picks files.
 */
const BURST_MISSES = 24;
const BURST_MS = 2_000;

const RULE_FILES: ReadonlySet<string> = new Set([IGNORE_FILE, ATTRIBUTES_FILE]);

/** Blobs of directories that are kept: a tree of many files is scanned at once. */
const DIRECTORY_BLOBS_MAX = 50_000;

/** The order of directories, as far as it was read. */
interface Walk {
  readonly order: Oid[];
  readonly position: Map<Oid, number>;
  blobs: number;
  /** Those of RULE_FILES. */
  readonly rules: Set<Oid>;
  /** Position of the directory that each was first found in; -1: of none. */
  readonly parents: number[];
  readonly stack: { readonly oid: Oid; readonly parent: number }[];
}

export interface Ahead {
  /** Blobs to bring besides the one asked for, in the order of the walk. */
  readonly oids: readonly Oid[];
  readonly reason: "directory" | "walk" | "scan";
}

/** One mounted tree, and where the last misses fell in it. */
export class Lookahead {
  readonly #base: BaseStore;
  readonly #format: ObjectFormat;
  readonly #rootTreeOid: Oid;
  /** Directories in preorder, each once, when all are in the base. */
  #order: Oid[] | null = null;
  #walk: Walk | null = null;
  #blobs = 0;
  #rules: ReadonlySet<Oid> = new Set();
  #position: ReadonlyMap<Oid, number> = new Map();
  #parents: readonly number[] = [];
  readonly #directories = new LRUCache<Oid, readonly Oid[]>({
    maxSize: DIRECTORY_BLOBS_MAX,
    sizeCalculation: (oids) => oids.length + 1,
  });
  /** Directories of which every blob was asked for already. */
  readonly #complete = new Set<Oid>();
  /** In directories. */
  #window = 1;
  /** Misses of the streak, and directories from each to the next, but for what windows brought. */
  #streak = 1;
  #strides = 0;
  /** What the last miss has asked for has not begun to come. */
  #waiting = false;
  /** Position of the last window's last directory; -1: not known yet. */
  #end = -1;
  #previous: Oid | null = null;
  /** Blobs of the last window, and contents read since. */
  #brought = 0;
  #read = 0;
  #reading = false;
  #arrivedAt = Number.NEGATIVE_INFINITY;
  /** Times of the last BURST_MISSES misses, oldest first. */
  readonly #missTimes: number[] = [];
  /** Misses one after the other that came so soon: a far remote, or a busy machine, is slow. */
  #soon = 0;
  readonly #now: () => number;

  constructor(
    base: BaseStore,
    format: ObjectFormat,
    rootTreeOid: Oid,
    now: () => number = () => performance.now(),
  ) {
    this.#base = base;
    this.#format = format;
    this.#rootTreeOid = rootTreeOid;
    this.#now = now;
  }

  /** Somebody reads contents of so many blobs, not only sizes. */
  noteContent(blobs = 1): void {
    this.#read += blobs;
    this.#reading = true;
  }

  /** Files of the whole tree; null: not counted, because nobody walked it. */
  blobCount(): number | null {
    return this.#order === null ? null : this.#blobs;
  }

  /** Whether the directory is in the tree; false: it is not, or that is not known yet. */
  holds(treeOid: Oid): boolean {
    return this.#position.has(treeOid);
  }

  /** What was asked for has come, as far as it could. */
  noteArrival(): void {
    this.#waiting = false;
    this.#arrivedAt = this.#now();
  }

  /** What was asked for did not come: it is missing still. */
  forgetAsked(): void {
    this.#complete.clear();
    this.#window = 1;
  }

  /** Blobs of one directory. */
  directory(treeOid: Oid): readonly Oid[] {
    const parsed = this.#directories.get(treeOid);
    if (parsed !== undefined) return parsed;
    const raw = this.#base.tree(treeOid);
    if (raw === null) return [];
    const blobs = this.#blobsOf(raw);
    this.#directories.set(treeOid, blobs);
    return blobs;
  }

  /** What a miss in `treeOid` brings along; `oid`: of what, if that is known. */
  miss(treeOid: Oid, oid: Oid | null = null): Ahead {
    const ahead = this.#missIn(treeOid);
    if (oid === null || !this.#isRules(treeOid, oid)) return ahead;
    return { ...ahead, oids: [...ahead.oids, ...this.#rules] };
  }

  #missIn(treeOid: Oid): Ahead {
    const now = this.#now();
    const readAll = this.#brought >= READ_MIN_BLOBS && this.#read >= READ_SHARE * this.#brought;
    const sinceMs = now - this.#arrivedAt;
    const hurries = this.#read >= HURRY_MIN_BLOBS && sinceMs <= HURRY_MS;
    // There was some work for each file that a window has spared.
    const spared = Math.max(1, this.#window / this.#stride());
    const goesOn = !this.#waiting && sinceMs <= HURRY_MS * spared;
    this.#waiting = true;
    const ahead = this.#ahead(treeOid, { scans: readAll || hurries, goesOn, now });
    this.#brought = ahead.oids.length;
    this.#read = 0;
    return ahead;
  }

  /** Whether it is an ignore or attribute file there, and all others of the tree are known. */
  #isRules(treeOid: Oid, oid: Oid): boolean {
    const raw = this.#base.tree(treeOid);
    if (raw === null) return false;
    const { entries } = parseTree(raw, this.#format);
    if (!entries.some((entry) => entry.oid === oid && RULE_FILES.has(entry.name))) return false;
    this.prepare(Infinity);
    return this.#order !== null;
  }

  /** Whether this miss is one of a burst. */
  #noteMiss(now: number): boolean {
    if (this.#streak >= STREAK_MIN) return false;
    this.#soon = now - this.#arrivedAt <= HURRY_MS ? this.#soon + 1 : 0;
    this.#missTimes.push(now);
    if (this.#missTimes.length <= BURST_MISSES) return false;
    const isQuick = now - (this.#missTimes.shift() as number) < BURST_MS;
    return isQuick || this.#soon >= BURST_MISSES;
  }

  /** `goesOn`: it is the next of one who looks at one thing after the other. */
  #ahead(
    treeOid: Oid,
    { scans, goesOn, now }: { scans: boolean; goesOn: boolean; now: number },
  ): Ahead {
    const own = this.directory(treeOid);
    this.#complete.add(treeOid);
    const previous = this.#previous;
    this.#previous = treeOid;
    // One miss is no walk: the order of the tree is read at the second.
    const position = previous === null ? undefined : this.#positionOf(treeOid);
    const order = this.#order;
    if (previous === null || position === undefined || order === null) {
      this.#noteMiss(now);
      return { oids: own, reason: "directory" };
    }
    const before = this.#position.get(previous) ?? -1;
    if (this.#end < 0) this.#end = before;
    const near = this.#end >= 0 && this.#isNear(position);
    if (goesOn && (this.#isSparse(order) || !near) && this.#isAround(position, before)) {
      // The index has a directory's later files behind its subdirectories.
      this.#previous = previous;
      return { oids: own, reason: "directory" };
    }
    this.#noteStride(position, goesOn);
    const burst = this.#noteMiss(now);
    const sparse = this.#isSparse(order);
    if (sparse) {
      const first = STREAK_WINDOW * Math.ceil(this.#stride());
      this.#window = Math.max(first, this.#window * STREAK_GROWTH);
    } else this.#window = near ? this.#window * WINDOW_GROWTH : 1;
    const all = this.#reading ? WINDOW_ALL_READING : WINDOW_ALL;
    const dense = this.#stride() < STRIDE_DENSE;
    const everything = near && dense && (scans || this.#window >= all);
    if (burst || everything) {
      return { oids: [...own, ...this.#rest(order)], reason: this.#reading ? "scan" : "walk" };
    }
    if (this.#window === 1) {
      this.#end = position;
      return { oids: own, reason: "directory" };
    }
    const above = sparse ? this.#above(order, position) : [];
    return { oids: [...own, ...above, ...this.#next(order, position)], reason: "walk" };
  }

  /** Of the directories that it is below, to whose later files a walk in index order comes. */
  #above(order: readonly Oid[], position: number): Oid[] {
    const oids: Oid[] = [];
    for (let at = position; at >= 0; at = this.#parents[at] as number) {
      const treeOid = order[at] as Oid;
      if (this.#complete.has(treeOid)) continue;
      this.#complete.add(treeOid);
      oids.push(...this.directory(treeOid));
    }
    return oids;
  }

  #noteStride(position: number, goesOn: boolean): void {
    if (goesOn && this.#end >= 0 && position > this.#end) {
      this.#streak++;
      this.#strides += position - this.#end;
    } else {
      this.#streak = 1;
      this.#strides = 0;
    }
  }

  /** Directories from one miss to the next. */
  #stride(): number {
    return this.#streak < STREAK_MIN ? 1 : this.#strides / (this.#streak - 1);
  }

  /** Whether there is a streak that leaves out directories, and not more than is worth it. */
  #isSparse(order: readonly Oid[]): boolean {
    const stride = this.#stride();
    return stride >= STRIDE_DENSE && stride <= STRIDE_MAX &&
      stride * STREAK_TREE_MISSES <= order.length;
  }

  /** Whether the directory at `position` has the one at `inner` below it. */
  #isAround(position: number, inner: number): boolean {
    let at = inner;
    while (at > position) at = this.#parents[at] as number;
    return at === position && inner > position;
  }

  #blobsOf(raw: Uint8Array): Oid[] {
    const oids: Oid[] = [];
    for (const { kind, oid } of parseTree(raw, this.#format).entries) {
      if (kind !== "directory" && kind !== "gitlink") oids.push(oid);
    }
    return oids;
  }

  #positionOf(treeOid: Oid): number | undefined {
    this.prepare(Infinity);
    return this.#position.get(treeOid);
  }

  /**
   * Reads so many trees of the order of directories, of which the second miss needs all. False:
   * there are more. It may be called while nothing else is to be done.
   */
  prepare(trees: number): boolean {
    if (this.#order !== null) return true;
    if (this.#walk === null) {
      if (!this.#base.isIndexed(this.#rootTreeOid)) return true;
      this.#walk = {
        order: [],
        position: new Map(),
        blobs: 0,
        rules: new Set(),
        parents: [],
        stack: [{ oid: this.#rootTreeOid, parent: -1 }],
      };
    }
    const walk = this.#walk;
    for (let read = 0; read < trees;) {
      const next = walk.stack.pop();
      if (next === undefined) {
        this.#blobs = walk.blobs;
        this.#rules = walk.rules;
        this.#position = walk.position;
        this.#parents = walk.parents;
        this.#order = walk.order;
        this.#walk = null;
        return true;
      }
      // Once, however often it occurs: a hostile tree holds its subtrees a billion times.
      const { oid, parent } = next;
      if (walk.position.has(oid)) continue;
      const raw = this.#base.tree(oid);
      if (raw === null) {
        this.#walk = null;
        return true;
      }
      read++;
      walk.parents.push(parent);
      this.#visit(walk, oid, raw);
    }
    return false;
  }

  #visit(walk: Walk, oid: Oid, raw: Uint8Array): void {
    const position = walk.order.push(oid) - 1;
    walk.position.set(oid, position);
    const blobs: Oid[] = [];
    const below: Oid[] = [];
    for (const { kind, name, oid: entryOid } of parseTree(raw, this.#format).entries) {
      if (kind === "directory") below.push(entryOid);
      else if (kind !== "gitlink") {
        blobs.push(entryOid);
        if (RULE_FILES.has(name)) walk.rules.add(entryOid);
      }
    }
    walk.blobs += blobs.length;
    this.#directories.set(oid, blobs);
    for (const entryOid of below.reverse()) walk.stack.push({ oid: entryOid, parent: position });
  }

  /** Whether at most NEAR incomplete directories lie between the last window and `position`. */
  #isNear(position: number): boolean {
    const order = this.#order as Oid[];
    const step = position >= this.#end ? 1 : -1;
    let between = 0;
    for (let i = this.#end; i !== position; i += step) {
      if (!this.#complete.has(order[i] as Oid) && ++between > NEAR) return false;
    }
    return true;
  }

  #next(order: readonly Oid[], position: number): Oid[] {
    const oids: Oid[] = [];
    let taken = 1;
    let at = position + 1;
    for (; at < order.length && taken < this.#window; at++) {
      const treeOid = order[at] as Oid;
      if (this.#complete.has(treeOid)) continue;
      this.#complete.add(treeOid);
      const blobs = this.directory(treeOid);
      if (blobs.length === 0) continue;
      oids.push(...blobs);
      taken++;
    }
    this.#end = at - 1;
    return oids;
  }

  #rest(order: readonly Oid[]): Oid[] {
    const oids: Oid[] = [];
    for (const treeOid of order) {
      if (this.#complete.has(treeOid)) continue;
      this.#complete.add(treeOid);
      for (const oid of this.directory(treeOid)) oids.push(oid);
    }
    this.#end = order.length - 1;
    return oids;
  }
}
