/**
 * From "somebody wants this blob's size (or bytes)" to an answer, for all mounts of one store.
 *
 *   state      event                                     next       function
 *   (none)     want                                      looking    want
 *   looking    the object is here                        (none)     #answerSize, #answerContent
 *   looking    missing                                   queued     #serve, #bringAlong
 *   queued     a fetch may start                         fetching   #startFetches
 *   fetching   the object is here                        (none)     #afterFetch
 *   fetching   the fetch failed, or the remote lacks it  (none)     #settle
 *
 * Invariants
 *  1. One download per oid however many wait: an oid is in #fetches at most once.
 *  2. Every want gets an answer: sizes, contents or spool for it, or unavailable.
 *  3. Contents held in memory are at most SPOOL_BYTES each; bigger blobs go through a file.
 *  4. A pack is called sized only after the sizes of its blobs were told, and both are kept in this
 *     order. What a kill leaves unsized is looked at when the first mount comes, before lookahead
 *     (which takes what has no size for missing).
 *  5. Lookahead rides along with the fetch of the blob that is waited for, behind it.
 */

import { LRUCache } from "lru-cache";
import { Failure, messageOf } from "../failure.ts";
import { CatFile, leastBusy, type ObjectInfo } from "../git/cat_file.ts";
import { gitFailure, isWorthAnotherForm } from "../git/errors.ts";
import type { Fetched, FetchOptions, ObjectSource } from "../git/fetch.ts";
import type { ObjectFormat, Oid } from "../git/oid.ts";
import { type PackReader, sizesOf } from "../git/pack_reader.ts";
import type { HostPath } from "../path.ts";
import { turn } from "../promises.ts";
import type { BaseStore } from "../snapshot/store.ts";
import { ContentSink } from "./content_sink.ts";
import { type Ahead, Lookahead } from "./lookahead.ts";
import type {
  AttachMount,
  Hydrated,
  HydratorEvent,
  Load,
  MoveMount,
  Need,
  Want,
} from "./messages.ts";
import { SPOOL_BYTES, type SpoolDirectory } from "./spool.ts";
import { unsizedPacks } from "./unsized_packs.ts";

/** Misses that arrive within this travel in one request. */
const COALESCE_MS = 3;
const SIZES_MAX = 50_000;
/** Sizes told in one message. */
const SIZES_PER_MESSAGE = 5000;
/** Blobs of a batch that are looked at without a pause: about 10 ms. */
const LOOKED_AT_ONCE = 1000;
/** Trees read for lookahead without a pause: some ms. */
const PREPARED_AT_ONCE = 64;
/** Below this a whole commit costs a server more than its blobs. */
const WHOLE_MIN_BLOBS = 200;
/** Progress is told to waiting mounts at most so often. */
const PROGRESS_MS = 1000;

interface Mount {
  readonly id: number;
  /** Null: one that the remote may not have. */
  commitOid: Oid | null;
  lookahead: Lookahead;
  readonly checker: CatFile;
  readonly readers: readonly CatFile[];
}

interface Waiter {
  readonly mount: Mount;
  readonly need: Need;
}

/** One oid that is queued or being fetched. */
interface Miss {
  readonly oid: Oid;
  readonly mount: Mount;
  /** In whose tree it is, for certain; null: that is not known. */
  readonly commitOid: Oid | null;
  readonly waiters: Waiter[];
}

/** What lookahead adds to a miss. */
interface Others {
  readonly missing: readonly Oid[];
  readonly reason: Ahead["reason"];
  readonly commitOid: Oid | null;
}

interface Batch {
  readonly misses: Map<Oid, Miss>;
  reason: Hydrated["reason"];
}

export interface HydratorOptions {
  readonly base: BaseStore;
  readonly objectFormat: ObjectFormat;
  /** Blobs come when they are asked for. False: the store had them all from the start. */
  readonly partial: boolean;
  readonly source: ObjectSource;
  /** Those of the store. */
  readonly packs: PackReader;
  readonly spools: SpoolDirectory;
  /** Fetches at once, and readers of each mount. */
  readonly concurrency: number;
  readonly emit: (event: HydratorEvent, transfer: Transferable[]) => void;
}

export class Hydrator {
  readonly #options: HydratorOptions;
  readonly #mounts = new Map<number, Mount>();
  readonly #fetches = new Map<Oid, Miss>();
  /** Sizes told lately. */
  // Not `max`: that would make room for all of them at once, some 10 ms of every mount's start.
  readonly #sizes = new LRUCache<Oid, number>({ maxSize: SIZES_MAX, sizeCalculation: () => 1 });
  /** What the remote said it does not have: asked for only when somebody waits for it. */
  readonly #lost = new LRUCache<Oid, true>({ maxSize: SIZES_MAX, sizeCalculation: () => 1 });
  readonly #stopping = new AbortController();
  #queued: Batch = { misses: new Map(), reason: "read" };
  readonly #running = new Set<Promise<void>>();
  /** Ends when the packs that no hydrator has finished with are sized; null: no mount yet. */
  #recovered: Promise<void> | null = null;
  /** Packs of which objects have come and not all. */
  readonly #arriving = new Set<string>();
  #timer: number | null = null;
  #progressAt = 0;

  constructor(options: HydratorOptions) {
    this.#options = options;
  }

  attach({ mountId, viewDir, commitOid, rootTreeOid }: AttachMount): void {
    const { base, objectFormat, concurrency } = this.#options;
    const view = viewDir as HostPath;
    const mount: Mount = {
      id: mountId,
      commitOid,
      lookahead: new Lookahead(base, objectFormat, rootTreeOid),
      checker: new CatFile(view, "check"),
      readers: Array.from({ length: concurrency }, () => new CatFile(view, "contents")),
    };
    this.#mounts.set(mountId, mount);
    this.#recovered ??= this.#recover(mount).catch(() => {
      // Some blobs may come twice; nothing else depends on it.
    });
  }

  /** What is under way ends as it was meant; what comes is looked for in the new tree. */
  move({ mountId, commitOid, rootTreeOid }: MoveMount): void {
    const { base, objectFormat, packs } = this.#options;
    const mount = this.#mounts.get(mountId);
    if (mount === undefined) return;
    mount.lookahead = new Lookahead(base, objectFormat, rootTreeOid);
    // A user's own commit is not in the store, whose packs are the remote's.
    mount.commitOid = packs.size(commitOid) === undefined ? null : commitOid;
  }

  async #recover({ checker }: Mount): Promise<void> {
    const { base, partial, source } = this.#options;
    if (!partial) return;
    for await (const { name, sizes } of unsizedPacks(base, source, checker)) {
      this.#tellSizes(sizes);
      this.#tellSized([name]);
    }
  }

  #tellSized(names: readonly string[]): void {
    if (names.length > 0) this.#options.emit({ kind: "sized-packs", names }, []);
  }

  async detach(mountId: number): Promise<void> {
    const mount = this.#mounts.get(mountId);
    if (mount === undefined) return;
    this.#mounts.delete(mountId);
    await Promise.all([mount.checker, ...mount.readers].map((process) => process.close()));
  }

  get load(): Load {
    return { queued: this.#fetches.size, fetches: this.#running.size };
  }

  want(want: Want): void {
    const { mountId, oid, need } = want;
    const mount = this.#mounts.get(mountId);
    if (mount === undefined) {
      const cause = "the mount is not attached";
      this.#options.emit({ kind: "unavailable", mountId, oid, need, cause }, []);
      return;
    }
    const treeOid = want.trees.at(-1) ?? null;
    const waiter = { mount, need };
    const failed = (error: unknown) => this.#unavailable(oid, waiter, messageOf(error));
    const read = want.read + (need === "content" ? 1 : 0);
    if (read > 0) mount.lookahead.noteContent(read);
    this.#serve(oid, waiter, treeOid).catch(failed);
  }

  #tellContents(mount: Mount, oid: Oid, content: Uint8Array<ArrayBuffer>): void {
    // A sink's bytes are all there is in their buffer.
    const { buffer: bytes } = content;
    this.#options.emit({ kind: "contents", mountId: mount.id, oid, bytes }, [bytes]);
  }

  async #serve(oid: Oid, waiter: Waiter, treeOid: Oid | null): Promise<void> {
    const { mount, need } = waiter;
    // While packs arrive the mounts read what they wait for by themselves, and git sees none of it.
    const underWay = this.#arriving.size > 0 && this.#fetches.has(oid);
    const here = need === "size"
      ? await this.#answerSize(oid, mount, underWay)
      : !underWay && await this.#answerContent(oid, mount);
    if (here) return;
    const fetching = this.#fetches.get(oid);
    if (fetching !== undefined) {
      fetching.waiters.push(waiter);
      return;
    }
    // Its fetch has ended meanwhile.
    if (underWay) return await this.#serve(oid, waiter, treeOid);
    const { commitOid, lookahead } = mount;
    const inCommit = treeOid !== null && lookahead.holds(treeOid);
    const miss = { oid, mount, commitOid: inCommit ? commitOid : null, waiters: [waiter] };
    this.#fetches.set(oid, miss);
    const others = treeOid === null ? null : await this.#others(oid, mount, treeOid);
    // Only now, or a fetch that starts meanwhile would take the blob without the others.
    this.#queued.misses.set(oid, miss);
    if (others !== null) this.#bringAlong(others, mount);
    this.#schedule();
  }

  async #answerSize(oid: Oid, mount: Mount, underWay: boolean): Promise<boolean> {
    const sizes = underWay ? this.#inPacks([oid]).sizes : await this.#look([oid], mount);
    this.#tellSizes(sizes);
    return sizes.length > 0;
  }

  async #answerContent(oid: Oid, mount: Mount): Promise<boolean> {
    const { spools } = this.#options;
    if (spools.follow(oid, mount.id)) return true;
    const sink = new ContentSink(oid, mount.id, spools);
    let info: ObjectInfo | null;
    try {
      info = await leastBusy(mount.readers).request(oid, sink);
    } catch (error) {
      for (const mountId of sink.abandon()) {
        const other = this.#mounts.get(mountId);
        if (other === undefined || other === mount) continue;
        // Not theirs to fail: it may have been this mount's going that ended the reader.
        this.want({ kind: "want", mountId, oid, need: "content", trees: [], read: 0 });
      }
      throw error;
    }
    if (info === null) return false;
    if (info.sizeBytes > SPOOL_BYTES) spools.finish(oid);
    else this.#tellContents(mount, oid, sink.collected);
    return true;
  }

  /**
   * The rest of the directory, and of the tree when a walk is seen: what of it is not here. Null:
   * that cannot be said, and the one asked for goes alone.
   */
  async #others(
    oid: Oid,
    mount: Mount,
    treeOid: Oid,
  ): Promise<Others | null> {
    try {
      await this.#recovered;
      const { commitOid, lookahead } = mount;
      const { oids, reason } = lookahead.miss(treeOid, oid);
      const missing = await this.#lookAt(oids.filter((other) => other !== oid), mount);
      return { missing, reason, commitOid: lookahead.holds(treeOid) ? commitOid : null };
    } catch {
      mount.lookahead.forgetAsked();
      return null;
    }
  }

  #bringAlong({ missing, reason, commitOid }: Others, mount: Mount): void {
    for (const oid of missing) {
      // Somebody may have asked for it meanwhile.
      if (this.#fetches.has(oid)) continue;
      const miss = { oid, mount, commitOid, waiters: [] };
      this.#fetches.set(oid, miss);
      this.#queued.misses.set(oid, miss);
    }
    if (missing.length > 0 && (this.#queued.reason === "read" || reason === "scan")) {
      this.#queued.reason = reason;
    }
  }

  /** Tells the sizes of those that are here; returns the others. */
  async #lookAt(oids: readonly Oid[], mount: Mount): Promise<Oid[]> {
    const known = this.#sizesOf(oids);
    const asked = [...new Set(oids)].filter((oid) =>
      !known.has(oid) && !this.#fetches.has(oid) && !this.#lost.has(oid)
    );
    // Every blob that came has a size that we keep, and looking for what is not here is dear: git
    // reads its pack folders anew each time.
    if (asked.length === 0 || this.#options.partial) return asked;
    const sizes = await this.#look(asked, mount);
    this.#tellSizes(sizes);
    const here = new Set(sizes.map(([oid]) => oid));
    return asked.filter((oid) => !here.has(oid));
  }

  /** Sizes of those that are here. Rejects when git fails. */
  async #look(oids: readonly Oid[], mount: Mount): Promise<[Oid, number][]> {
    const { sizes, others } = this.#inPacks(oids);
    if (others.length === 0) return sizes;
    const infos = await Promise.all(mount.checker.requestMany(others, null));
    infos.forEach((info, i) => {
      if (info !== null) sizes.push([others[i] as Oid, info.sizeBytes]);
    });
    return sizes;
  }

  #inPacks(oids: readonly Oid[]): { sizes: [Oid, number][]; others: Oid[] } {
    const sizes: [Oid, number][] = [];
    const others: Oid[] = [];
    for (const oid of oids) {
      const size = this.#options.packs.size(oid);
      if (size === undefined) others.push(oid);
      else sizes.push([oid, size]);
    }
    return { sizes, others };
  }

  /** The known ones: those found lately, which may not be in the base yet, and those kept. */
  #sizesOf(oids: readonly Oid[]): ReadonlyMap<Oid, number> {
    const known = new Map<Oid, number>();
    const others: Oid[] = [];
    for (const oid of oids) {
      const size = this.#sizes.get(oid);
      if (size === undefined) others.push(oid);
      else known.set(oid, size);
    }
    if (others.length > 0) {
      for (const [oid, size] of this.#options.base.sizes(others)) known.set(oid, size);
    }
    return known;
  }

  #tellSizes(sizes: readonly (readonly [Oid, number])[]): void {
    for (const [oid, size] of sizes) this.#sizes.set(oid, size);
    for (let at = 0; at < sizes.length; at += SIZES_PER_MESSAGE) {
      const part = sizes.slice(at, at + SIZES_PER_MESSAGE);
      this.#options.emit({ kind: "sizes", sizes: part }, []);
    }
  }

  #schedule(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#startFetches();
    }, COALESCE_MS);
  }

  /** Ends what runs; who waits is told that it is unavailable. */
  async stop(): Promise<void> {
    this.#stopping.abort(new Failure("failed", "Cannot fetch: the mount is going away"));
    while (this.#running.size > 0) await Promise.allSettled(this.#running);
    await Promise.all([...this.#mounts.keys()].map((mountId) => this.detach(mountId)));
    this.#options.packs.close();
  }

  #startFetches(): void {
    if (this.#queued.misses.size === 0 || this.#running.size >= this.#options.concurrency) return;
    const batch = this.#queued;
    this.#queued = { misses: new Map(), reason: "read" };
    const running = this.#fetch(batch).finally(() => {
      this.#running.delete(running);
      this.#startFetches();
    });
    this.#running.add(running);
  }

  async #fetch(batch: Batch): Promise<void> {
    const { source, emit, objectFormat } = this.#options;
    const started = performance.now();
    const mounts = new Set([...batch.misses.values()].map(({ mount }) => mount));
    const noteArrival = () => {
      for (const { lookahead } of mounts) lookahead.noteArrival();
    };
    const arriving = new Set<string>();
    const sizes = new Map<Oid, number>();
    const options: FetchOptions = {
      onProgress: () => this.#tellProgress(),
      onArriving: (objects) => {
        arriving.add(objects.path);
        for (const [oid, size] of sizesOf(objects, objectFormat)) sizes.set(oid, size);
        this.#arriving.add(objects.path);
        this.#options.packs.addArriving(objects);
        emit({ kind: "arriving", ...objects }, []);
        noteArrival();
      },
      signal: this.#stopping.signal,
    };
    let packBytes = 0;
    let failure: string | null = null;
    const packs: string[] = [];
    const take = (fetched: Fetched) => {
      packs.push(...fetched.packs);
      packBytes += fetched.packBytes;
      if (!fetched.arrived) sizes.clear();
      for (const oid of fetched.lost) this.#lost.set(oid, true);
      this.#askAgain(batch, fetched.left);
    };
    try {
      const fetching = this.#fetchAll(batch, options, take);
      this.#prepareLookahead(batch);
      await fetching;
    } catch (error) {
      failure = gitFailure("fetch contents", error).message;
      sizes.clear();
      for (const { mount } of batch.misses.values()) mount.lookahead.forgetAsked();
      // Lookahead may ask for what a full disk has no room for; who waits asked for less.
      const waited = [...batch.misses.values()].filter(({ waiters }) => waiters.length > 0);
      const fewer = waited.length > 0 && waited.length < batch.misses.size;
      if (fewer && isWorthAnotherForm(error, options.signal)) {
        try {
          take(await source.fetchBlobs(waited.map(({ oid }) => oid), options));
        } catch (again) {
          failure = gitFailure("fetch contents", again).message;
        }
      }
    }
    const durationMs = Math.round(performance.now() - started);
    for (const path of arriving) {
      this.#arriving.delete(path);
      this.#options.packs.endArriving(path);
    }
    this.#options.packs.expectPacks();
    // First of all: the mounts can read by themselves what has come.
    emit({ kind: "arrived", paths: [...arriving] }, []);
    noteArrival();
    const { found, looked } = await this.#afterFetch(batch, sizes, failure);
    if (looked) this.#tellSized(packs);
    emit({
      kind: "hydrated",
      reason: batch.reason,
      blobs: found,
      packBytes,
      durationMs,
      error: failure,
    }, []);
  }

  /** While the remote is waited for: the next miss may need it. */
  #prepareLookahead(batch: Batch): void {
    const lookaheads = new Set(batch.misses.values().map(({ mount }) => mount.lookahead));
    const step = () => {
      for (const lookahead of lookaheads) {
        if (lookahead.prepare(PREPARED_AT_ONCE)) lookaheads.delete(lookahead);
      }
      if (lookaheads.size > 0 && !this.#stopping.signal.aborted) setTimeout(step);
    };
    setTimeout(step);
  }

  /** What was left out: in the next batch when somebody waits for it, else at the next miss. */
  #askAgain(batch: Batch, left: readonly Oid[]): void {
    for (const oid of left) {
      const miss = batch.misses.get(oid);
      if (miss === undefined) continue;
      batch.misses.delete(oid);
      if (miss.waiters.length > 0) this.#queued.misses.set(oid, miss);
      else {
        this.#fetches.delete(oid);
        miss.mount.lookahead.forgetAsked();
      }
    }
  }

  /** A batch as one commit and what is not in it, or all by name. */
  async #fetchAll(
    batch: Batch,
    options: FetchOptions,
    take: (fetched: Fetched) => void,
  ): Promise<void> {
    const { source } = this.#options;
    // Who waits comes before lookahead.
    const misses = [...batch.misses.values()].toSorted((a, b) =>
      Number(b.waiters.length > 0) - Number(a.waiters.length > 0)
    );
    let whole = this.#wholeCommit(batch);
    if (whole !== null) {
      try {
        take(await source.fetchCommit(whole, options));
      } catch (error) {
        if (!isWorthAnotherForm(error, options.signal)) throw error;
        // The commit may be gone from the remote while its blobs are not.
        whole = null;
      }
    }
    // Of another commit, perhaps: not in that one's tree.
    const named = misses.filter(({ commitOid }) => whole === null || commitOid !== whole)
      .map(({ oid }) => oid);
    if (named.length > 0) take(await source.fetchBlobs(named, options));
  }

  /** The commit to ask for when the batch is most of what its tree lacks. */
  #wholeCommit(batch: Batch): Oid | null {
    if (batch.reason !== "scan" && batch.reason !== "walk") return null;
    const misses = [...batch.misses.values()];
    // Lookahead, which makes a batch big, is behind what was asked for.
    const { mount, commitOid = null } = misses.at(-1) ?? {};
    const total = mount?.lookahead.blobCount() ?? null;
    if (commitOid === null || commitOid !== mount?.commitOid || total === null) return null;
    const { length } = misses.filter((miss) => miss.commitOid === commitOid);
    return length >= WHOLE_MIN_BLOBS && length > total / 2 ? commitOid : null;
  }

  #tellProgress(): void {
    const now = performance.now();
    if (now - this.#progressAt < PROGRESS_MS) return;
    this.#progressAt = now;
    this.#options.emit({ kind: "progress" }, []);
  }

  /** Answers everybody who waited for the batch: how many are here now, if all were looked at. */
  async #afterFetch(
    batch: Batch,
    known: ReadonlyMap<Oid, number>,
    failure: string | null,
  ): Promise<{ found: number; looked: boolean }> {
    const misses = [...batch.misses.values()];
    let found = 0;
    let looked = true;
    const byMount = Map.groupBy(misses, (miss) => this.#viewerOf(miss));
    for (const [mount, ofMount] of byMount) {
      for (let at = 0; at < ofMount.length; at += LOOKED_AT_ONCE) {
        // Wants that came meanwhile have their turn.
        if (at > 0) await turn();
        const part = ofMount.slice(at, at + LOOKED_AT_ONCE);
        const answered = await this.#answer(part, mount, known, failure);
        found += answered.found;
        looked &&= answered.looked;
      }
    }
    return { found, looked };
  }

  async #answer(
    misses: readonly Miss[],
    mount: Mount,
    known: ReadonlyMap<Oid, number>,
    failure: string | null,
  ): Promise<{ found: number; looked: boolean }> {
    const sizes: [Oid, number][] = [];
    const others: Oid[] = [];
    for (const { oid } of misses) {
      const size = known.get(oid);
      if (size === undefined) others.push(oid);
      else sizes.push([oid, size]);
    }
    let looked = true;
    let cause = failure;
    try {
      for (const found of await this.#look(others, mount)) sizes.push(found);
    } catch (error) {
      looked = false;
      cause = messageOf(error);
    }
    this.#tellSizes(sizes);
    const here = new Set(sizes.map(([oid]) => oid));
    for (const { oid, waiters } of misses) {
      this.#fetches.delete(oid);
      for (const waiter of waiters) this.#settle(oid, waiter, here.has(oid), cause);
    }
    return { found: sizes.length, looked };
  }

  /** The mount in whose view the outcome is looked at: one that is still there, if any is. */
  #viewerOf({ mount, waiters }: Miss): Mount {
    const mounts = [mount, ...waiters.map((waiter) => waiter.mount)];
    return mounts.find((each) => this.#mounts.get(each.id) === each) ?? mount;
  }

  #settle(oid: Oid, waiter: Waiter, here: boolean, cause: string | null): void {
    if (!here) {
      this.#unavailable(oid, waiter, cause ?? "the remote does not have the object");
      return;
    }
    if (waiter.need === "size") return;
    this.#answerContent(oid, waiter.mount).then(
      (answered) => {
        if (!answered) this.#unavailable(oid, waiter, "the object has gone");
      },
      (error) => this.#unavailable(oid, waiter, messageOf(error)),
    );
  }

  #unavailable(oid: Oid, { mount, need }: Waiter, cause: string): void {
    this.#options.emit({ kind: "unavailable", mountId: mount.id, oid, need, cause }, []);
  }
}
