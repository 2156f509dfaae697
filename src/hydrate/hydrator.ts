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
 *  4. Lookahead rides along with the fetch of the blob that is waited for, behind it.
 */

import { LRUCache } from "lru-cache";
import { Failure, messageOf } from "../failure.ts";
import { CatFile, CollectingSink, type ObjectInfo, type ObjectSink } from "../git/cat_file.ts";
import { gitFailure } from "../git/errors.ts";
import type { FetchOptions, ObjectSource } from "../git/fetch.ts";
import type { ObjectFormat, Oid } from "../git/oid.ts";
import type { HostPath } from "../path.ts";
import type { BaseStore } from "../snapshot/store.ts";
import { type Ahead, Lookahead } from "./lookahead.ts";
import { Readahead } from "./readahead.ts";
import type { AttachMount, Hydrated, HydratorEvent, Need, Want } from "./messages.ts";
import { SPOOL_BYTES, type SpoolDirectory } from "./spool.ts";

/** Misses that arrive within this travel in one request. */
const COALESCE_MS = 3;
const SIZES_MAX = 50_000;
/** Sizes told in one message. */
const SIZES_PER_MESSAGE = 5000;
/** Below this a whole commit costs a server more than its blobs. */
const WHOLE_MIN_BLOBS = 200;
/** Progress is told to waiting mounts at most so often. */
const PROGRESS_MS = 1000;

interface Mount {
  readonly id: number;
  /** Directories whose local blobs' sizes were told. */
  readonly told: Set<Oid>;
  readonly readahead: Readahead;
  /** Blobs that readahead is reading, with who has asked for them meanwhile. */
  readonly reading: Map<Oid, Want[]>;
  readonly commitOid: Oid;
  readonly lookahead: Lookahead;
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
  readonly waiters: Waiter[];
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
  readonly #stopping = new AbortController();
  #queued: Batch = { misses: new Map(), reason: "read" };
  readonly #running = new Set<Promise<void>>();
  #timer: number | null = null;
  #progressAt = 0;

  constructor(options: HydratorOptions) {
    this.#options = options;
  }

  attach({ mountId, viewDir, commitOid, rootTreeOid }: AttachMount): void {
    const { base, objectFormat, concurrency } = this.#options;
    const view = viewDir as HostPath;
    const lookahead = new Lookahead(base, objectFormat, rootTreeOid);
    this.#mounts.set(mountId, {
      id: mountId,
      commitOid,
      lookahead,
      readahead: new Readahead((oids) => this.#sizesOf(oids), lookahead),
      reading: new Map(),
      told: new Set(),
      checker: new CatFile(view, "check"),
      readers: Array.from({ length: concurrency }, () => new CatFile(view, "contents")),
    });
  }

  async detach(mountId: number): Promise<void> {
    const mount = this.#mounts.get(mountId);
    if (mount === undefined) return;
    this.#mounts.delete(mountId);
    await Promise.all([mount.checker, ...mount.readers].map((process) => process.close()));
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
    if (need === "content") {
      mount.lookahead.noteContent();
      const reading = mount.reading.get(oid);
      if (reading !== undefined) {
        reading.push(want);
        return;
      }
      if (treeOid !== null) {
        this.#readAheadOf(mount, () => mount.readahead.after(treeOid, oid));
      }
    }
    this.#serve(oid, waiter, treeOid).catch(failed);
  }

  /** The next batch for a reader that has begun with the last. */
  readAhead(mountId: number): void {
    const mount = this.#mounts.get(mountId);
    if (mount !== undefined) this.#readAheadOf(mount, () => mount.readahead.more());
  }

  /** When it fails (a base that cannot be read) the reader is slower, nothing else. */
  async #readAheadOf(mount: Mount, next: () => readonly Oid[]): Promise<void> {
    try {
      await this.#readAhead(mount, next());
    } catch {
      // As said.
    }
  }

  /** Small blobs that are here, to the mount before it asks. What is not here is left out. */
  async #readAhead(mount: Mount, next: readonly Oid[]): Promise<void> {
    // After a jump it names again what is still being read, and who waits for that stays.
    const oids = next.filter((oid) => !mount.reading.has(oid));
    if (oids.length === 0) return;
    mount.lookahead.noteContent(oids.length);
    for (const oid of oids) mount.reading.set(oid, []);
    const sinks = oids.map(() => new CollectingSink());
    const reader = leastBusy(mount.readers);
    // An async function: that git cannot be started is thrown.
    const ask = async (oid: Oid, i: number) => await reader.request(oid, sinks[i]);
    const answers = await Promise.allSettled(oids.map(ask));
    const read = new Map<Oid, Uint8Array<ArrayBuffer>>();
    answers.forEach((answer, i) => {
      if (answer.status === "fulfilled" && answer.value !== null) {
        read.set(oids[i] as Oid, (sinks[i] as CollectingSink).bytes);
      }
    });
    this.#tellContents(mount, read, true);
    for (const oid of oids) {
      const asked = mount.reading.get(oid) ?? [];
      mount.reading.delete(oid);
      if (!read.has(oid)) { for (const want of asked) this.want(want); }
    }
  }

  #tellContents(
    mount: Mount,
    contents: ReadonlyMap<Oid, Uint8Array<ArrayBuffer>>,
    ahead: boolean,
  ): void {
    if (contents.size === 0) return;
    const lengths = Float64Array.from(contents.values(), ({ length }) => length);
    const bytes = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
    let at = 0;
    for (const content of contents.values()) {
      bytes.set(content, at);
      at += content.length;
    }
    this.#options.emit({
      kind: "contents",
      mountId: mount.id,
      ahead,
      oids: [...contents.keys()].join(""),
      lengths: lengths.buffer,
      bytes: bytes.buffer,
    }, [lengths.buffer, bytes.buffer]);
  }

  async #serve(oid: Oid, waiter: Waiter, treeOid: Oid | null): Promise<void> {
    const { mount, need } = waiter;
    const here = need === "size"
      ? await this.#answerSize(oid, mount)
      : await this.#answerContent(oid, mount);
    if (here && need === "size" && treeOid !== null) await this.#tellDirectory(mount, treeOid);
    if (here) return;
    const fetching = this.#fetches.get(oid);
    if (fetching !== undefined) {
      fetching.waiters.push(waiter);
      return;
    }
    const miss = { oid, mount, waiters: [waiter] };
    this.#fetches.set(oid, miss);
    const others = treeOid === null ? null : await this.#others(oid, mount, treeOid);
    // Only now, or a fetch that starts meanwhile would take the blob without the others.
    this.#queued.misses.set(oid, miss);
    if (others !== null) this.#bringAlong(others.missing, mount, others.reason);
    this.#schedule();
  }

  async #answerSize(oid: Oid, mount: Mount): Promise<boolean> {
    const info = await mount.checker.request(oid);
    if (info === null) return false;
    this.#tellSizes([[oid, info.sizeBytes]]);
    return true;
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
        this.want({ kind: "want", mountId, oid, need: "content", trees: [] });
      }
      throw error;
    }
    if (info === null) return false;
    if (info.sizeBytes > SPOOL_BYTES) spools.finish(oid);
    else this.#tellContents(mount, new Map([[oid, sink.collected]]), false);
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
  ): Promise<{ missing: Oid[]; reason: Ahead["reason"] } | null> {
    try {
      const { oids, reason } = mount.lookahead.miss(treeOid);
      const missing = await this.#lookAt(oids.filter((other) => other !== oid), mount);
      return { missing, reason };
    } catch {
      mount.lookahead.forgetAsked();
      return null;
    }
  }

  #bringAlong(missing: readonly Oid[], mount: Mount, reason: Ahead["reason"]): void {
    for (const oid of missing) {
      // Somebody may have asked for it meanwhile.
      if (this.#fetches.has(oid)) continue;
      const miss = { oid, mount, waiters: [] };
      this.#fetches.set(oid, miss);
      this.#queued.misses.set(oid, miss);
    }
    if (missing.length > 0 && (this.#queued.reason === "read" || reason === "scan")) {
      this.#queued.reason = reason;
    }
  }

  /** Who asks for one size in a store that has everything will ask for its neighbours'. */
  async #tellDirectory(mount: Mount, treeOid: Oid): Promise<void> {
    if (this.#options.partial || mount.told.has(treeOid)) return;
    mount.told.add(treeOid);
    await this.#lookAt(mount.lookahead.directory(treeOid), mount);
  }

  /** Tells the sizes of those that are here; returns the others. */
  async #lookAt(oids: readonly Oid[], mount: Mount): Promise<Oid[]> {
    const known = this.#sizesOf(oids);
    const asked = [...new Set(oids)].filter((oid) => !known.has(oid) && !this.#fetches.has(oid));
    // Every blob that came has a size that we keep, and looking for what is not here is dear: git
    // reads its pack folders anew each time.
    if (asked.length === 0 || this.#options.partial) return asked;
    const infos = await Promise.all(mount.checker.requestMany(asked, null));
    const missing: Oid[] = [];
    const sizes: [Oid, number][] = [];
    asked.forEach((oid, i) => {
      const info = infos[i];
      if (info) sizes.push([oid, info.sizeBytes]);
      else missing.push(oid);
    });
    this.#tellSizes(sizes);
    return missing;
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
    const { source, emit } = this.#options;
    const started = performance.now();
    const options = { onProgress: () => this.#tellProgress(), signal: this.#stopping.signal };
    let packBytes = 0;
    let failure: string | null = null;
    try {
      packBytes += await this.#fetchAll(batch, options);
    } catch (error) {
      failure = messageOf(error);
      for (const { mount } of batch.misses.values()) mount.lookahead.forgetAsked();
      // Lookahead may ask for what a full disk has no room for; who waits asked for less.
      const waited = [...batch.misses.values()].filter(({ waiters }) => waiters.length > 0);
      const fewer = waited.length > 0 && waited.length < batch.misses.size;
      if (fewer && isWorthAnotherTry(error, options.signal)) {
        try {
          packBytes += (await source.fetchBlobs(waited.map(({ oid }) => oid), options)).packBytes;
        } catch (again) {
          failure = messageOf(again);
        }
      }
    }
    const durationMs = Math.round(performance.now() - started);
    const found = await this.#afterFetch(batch, failure);
    emit({
      kind: "hydrated",
      reason: batch.reason,
      blobs: found,
      packBytes,
      durationMs,
      error: failure,
    }, []);
  }

  /** A batch as one commit and what is not in it, or all by name. Bytes of the packs. */
  async #fetchAll(batch: Batch, options: FetchOptions): Promise<number> {
    const { source } = this.#options;
    const misses = [...batch.misses.values()];
    let packBytes = 0;
    let whole = this.#wholeCommit(batch);
    if (whole !== null) {
      try {
        packBytes += (await source.fetchCommit(whole, options)).packBytes;
      } catch (error) {
        if (!isWorthAnotherTry(error, options.signal)) throw error;
        // The commit may be gone from the remote while its blobs are not.
        whole = null;
      }
    }
    // Of another commit, perhaps: not in that one's tree.
    const named = misses.filter(({ mount }) => mount.commitOid !== whole).map(({ oid }) => oid);
    if (named.length > 0) packBytes += (await source.fetchBlobs(named, options)).packBytes;
    return packBytes;
  }

  /** The commit to ask for when the batch is most of what its tree lacks. */
  #wholeCommit(batch: Batch): Oid | null {
    if (batch.reason !== "scan" && batch.reason !== "walk") return null;
    const misses = [...batch.misses.values()];
    // Lookahead, which makes a batch big, is behind what was asked for.
    const mount = misses.at(-1)?.mount;
    const total = mount?.lookahead.blobCount() ?? null;
    if (mount === undefined || total === null) return null;
    const { length } = misses.filter((miss) => miss.mount.commitOid === mount.commitOid);
    return length >= WHOLE_MIN_BLOBS && length > total / 2 ? mount.commitOid : null;
  }

  #tellProgress(): void {
    const now = performance.now();
    if (now - this.#progressAt < PROGRESS_MS) return;
    this.#progressAt = now;
    this.#options.emit({ kind: "progress" }, []);
  }

  /** Answers everybody who waited for the batch; the number of blobs that are here now. */
  async #afterFetch(batch: Batch, failure: string | null): Promise<number> {
    const misses = [...batch.misses.values()];
    let found = 0;
    const byMount = Map.groupBy(misses, (miss) => this.#viewerOf(miss));
    for (const [mount, ofMount] of byMount) {
      const oids = ofMount.map(({ oid }) => oid);
      let infos: (ObjectInfo | null)[] = [];
      let cause = failure;
      try {
        infos = await Promise.all(mount.checker.requestMany(oids, null));
      } catch (error) {
        cause = messageOf(error);
      }
      const sizes: [Oid, number][] = [];
      infos.forEach((info, i) => {
        if (info !== null) sizes.push([oids[i] as Oid, info.sizeBytes]);
      });
      this.#tellSizes(sizes);
      found += sizes.length;
      const here = new Set(sizes.map(([oid]) => oid));
      for (const { oid, waiters } of ofMount) {
        this.#fetches.delete(oid);
        for (const waiter of waiters) this.#settle(oid, waiter, here.has(oid), cause);
      }
    }
    return found;
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

/** Whether another form of the request may fare better: not when nobody answers. */
function isWorthAnotherTry(error: unknown, signal: AbortSignal | undefined): boolean {
  if (signal?.aborted === true) return false;
  const { kind } = gitFailure("fetch", error);
  return kind !== "network" && kind !== "authentication";
}

function leastBusy(readers: readonly CatFile[]): CatFile {
  let best = readers[0] as CatFile;
  for (const reader of readers) if (reader.queued < best.queued) best = reader;
  return best;
}

/** A small blob into memory, a big one into a file. */
class ContentSink implements ObjectSink {
  readonly #collect = new CollectingSink();
  #spool: ObjectSink | null = null;

  constructor(
    readonly oid: Oid,
    readonly mountId: number,
    readonly spools: SpoolDirectory,
  ) {}

  get collected(): Uint8Array<ArrayBuffer> {
    return this.#collect.bytes;
  }

  /** The mounts that wait for the file this was writing. */
  abandon(): number[] {
    return this.#spool === null ? [] : this.spools.abandon(this.oid, this.#spool);
  }

  start(info: ObjectInfo): void {
    if (info.sizeBytes > SPOOL_BYTES) {
      this.#spool = this.spools.create(this.oid, info.sizeBytes, this.mountId);
    } else this.#collect.start(info);
  }

  chunk(bytes: Uint8Array): void | Promise<void> {
    return this.#spool === null ? this.#collect.chunk(bytes) : this.#spool.chunk(bytes);
  }
}
