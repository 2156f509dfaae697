/**
 * Brings the trees of a generation into the base, and single trees that somebody waits for before
 * all others. The mount does not wait for it: a tree that is not there yet is asked for.
 *
 * Invariants
 *  1. A root is marked indexed only after every tree below it is committed.
 *  2. Between two waiting trees lies at most one batch of the background walk.
 */

import { CatFile, CollectingSink } from "../git/cat_file.ts";
import type { ObjectFormat, Oid } from "../git/oid.ts";
import { parseTree } from "../git/tree.ts";
import { messageOf } from "../failure.ts";
import type { HostPath } from "../path.ts";
import type { IndexerEvent, IndexTree, LoadTrees, WantTree } from "./messages.ts";
import type { BaseStore } from "./store.ts";

/** Trees read and committed together: about 3 ms of work. */
const BATCH_TREES = 64;

export class Indexer {
  readonly #base: BaseStore;
  readonly #format: ObjectFormat;
  readonly #emit: (event: IndexerEvent, transfer: Transferable[]) => void;
  readonly #readers = new Map<HostPath, CatFile>();
  /** Background walks, one after the other. */
  #walks: Promise<void> = Promise.resolve();
  /** Waiting trees under way. */
  #urgent = new Set<Promise<void>>();

  constructor(
    base: BaseStore,
    format: ObjectFormat,
    emit: (event: IndexerEvent, transfer: Transferable[]) => void,
  ) {
    this.#base = base;
    this.#format = format;
    this.#emit = emit;
  }

  /** Walks everything below a root, after the walks asked for before. */
  index(request: IndexTree): void {
    this.#walks = this.#walks.then(() => this.#walk(request)).catch((error) =>
      this.#emit({
        kind: "indexed",
        rootTreeOid: request.rootTreeOid,
        trees: 0,
        durationMs: 0,
        error: messageOf(error),
      }, [])
    );
  }

  want(request: WantTree): void {
    this.#first(this.#answer(request));
  }

  /** What a new root has over another one, before the walks: a mount waits for it. */
  load(request: LoadTrees): void {
    this.#first(this.#loadAll(request));
  }

  #first(work: Promise<void>): void {
    this.#urgent.add(work);
    work.finally(() => this.#urgent.delete(work));
  }

  /** Ends the process that reads there. A walk that still does starts another. */
  forgetView(viewDir: HostPath): Promise<void> {
    const reader = this.#readers.get(viewDir);
    this.#readers.delete(viewDir);
    return reader?.close() ?? Promise.resolve();
  }

  async #answer({ mountId, viewDir, treeOid }: WantTree): Promise<void> {
    let raw: Uint8Array<ArrayBuffer> | null = null;
    let cause: string | null = null;
    try {
      const stored = this.#base.tree(treeOid);
      raw = stored ?? await this.#read(viewDir as HostPath, treeOid);
      if (stored === null && raw !== null) this.#base.putTrees([[treeOid, raw]]);
      if (raw === null) cause = "the tree is not in the store";
    } catch (error) {
      cause = messageOf(error);
    }
    this.#emit({ kind: "tree", mountId, treeOid, raw, cause }, raw === null ? [] : [raw.buffer]);
  }

  async #walk({ viewDir, rootTreeOid }: IndexTree): Promise<void> {
    const started = performance.now();
    let trees = 0;
    let error: string | null = null;
    if (!this.#base.isIndexed(rootTreeOid)) {
      const queue: Oid[] = [rootTreeOid];
      const seen = new Set<Oid>(queue);
      while (queue.length > 0) {
        while (this.#urgent.size > 0) await Promise.all(this.#urgent);
        const batch = queue.splice(0, BATCH_TREES);
        const raws = await this.#load(viewDir as HostPath, batch);
        for (const raw of raws) {
          if (raw === null) {
            error = "a tree is not in the store";
            continue;
          }
          trees++;
          for (const entry of parseTree(raw, this.#format).entries) {
            if (entry.kind !== "directory" || seen.has(entry.oid)) continue;
            seen.add(entry.oid);
            queue.push(entry.oid);
          }
        }
      }
      if (error === null) this.#base.markIndexed(rootTreeOid);
    }
    const durationMs = Math.round(performance.now() - started);
    this.#emit({ kind: "indexed", rootTreeOid, trees, durationMs, error }, []);
  }

  async #loadAll({ viewDir, treeOids, fromTreeOid, rootTreeOid }: LoadTrees): Promise<void> {
    let error: string | null = null;
    try {
      for (let at = 0; at < treeOids.length; at += BATCH_TREES) {
        const batch = treeOids.slice(at, at + BATCH_TREES);
        const raws = await this.#load(viewDir as HostPath, batch);
        if (raws.includes(null)) error = "a tree is not in the store";
      }
      if (error === null && this.#base.isIndexed(fromTreeOid)) this.#base.markIndexed(rootTreeOid);
    } catch (caught) {
      error = messageOf(caught);
    }
    this.#emit({ kind: "loaded", viewDir, rootTreeOid, error }, []);
  }

  /** Trees of the base, or read and put there in one transaction. */
  async #load(
    viewDir: HostPath,
    oids: readonly Oid[],
  ): Promise<(Uint8Array<ArrayBuffer> | null)[]> {
    const absent: [Oid, Uint8Array<ArrayBuffer>][] = [];
    const raws = await Promise.all(oids.map(async (oid) => {
      const stored = this.#base.tree(oid);
      if (stored !== null) return stored;
      const raw = await this.#read(viewDir, oid);
      if (raw !== null) absent.push([oid, raw]);
      return raw;
    }));
    if (absent.length > 0) this.#base.putTrees(absent);
    return raws;
  }

  async #read(viewDir: HostPath, oid: Oid): Promise<Uint8Array<ArrayBuffer> | null> {
    let reader = this.#readers.get(viewDir);
    if (reader === undefined) {
      reader = new CatFile(viewDir, "contents");
      this.#readers.set(viewDir, reader);
    }
    const sink = new CollectingSink();
    const info = await reader.request(oid, sink);
    return info?.type === "tree" ? sink.bytes : null;
  }
}
