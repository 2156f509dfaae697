/**
 * Big blobs as files, so that nobody holds one in memory: written once, read by the mount workers
 * through descriptors of their own while it grows. The directory belongs to one hydrator and starts
 * empty; finished files are removed, oldest use first, above a quota. A reader that still has one
 * open keeps its bytes.
 */

import type { ObjectInfo, ObjectSink } from "../git/cat_file.ts";
import type { Oid } from "../git/oid.ts";
import type { HostPath } from "../path.ts";
import type { Spool } from "./messages.ts";

/** Blobs above this size are spooled. */
export const SPOOL_BYTES = 1024 * 1024;
/** Finished files together. */
export const SPOOL_QUOTA_BYTES = 2 * 1024 * 1024 * 1024;
/** How much arrives between two messages. */
const PROGRESS_BYTES = 2 * 1024 * 1024;

interface SpoolFile {
  readonly oid: Oid;
  readonly path: HostPath;
  readonly sizeBytes: number;
  /** What writes it; null when it is done. */
  sink: ObjectSink | null;
  file: Deno.FsFile | null;
  readonly mountIds: Set<number>;
  availableBytes: number;
  done: boolean;
}

export class SpoolDirectory {
  readonly #dir: HostPath;
  readonly #tell: (event: Spool) => void;
  /** Least recently used first. */
  readonly #files = new Map<Oid, SpoolFile>();

  readonly #quotaBytes: number;

  /** Empties the directory. */
  constructor(
    dir: HostPath,
    tell: (event: Spool) => void,
    quotaBytes: number = SPOOL_QUOTA_BYTES,
  ) {
    this.#dir = dir;
    this.#tell = tell;
    this.#quotaBytes = quotaBytes;
    Deno.mkdirSync(dir, { recursive: true, mode: 0o700 });
    for (const { name } of Deno.readDirSync(dir)) Deno.removeSync(`${dir}/${name}`);
  }

  /** If the blob is here or on its way, tells this mount about it from now on. */
  follow(oid: Oid, mountId: number): boolean {
    const spool = this.#files.get(oid);
    if (spool === undefined) return false;
    this.#files.delete(oid);
    this.#files.set(oid, spool);
    spool.mountIds.add(mountId);
    this.#tellOne(spool, mountId);
    return true;
  }

  /** A file for a blob that is about to be read. */
  create(oid: Oid, sizeBytes: number, mountId: number): ObjectSink {
    const existing = this.#files.get(oid);
    if (existing !== undefined) {
      // Two readers asked at the same moment: the first one writes.
      this.follow(oid, mountId);
      return { start: () => {}, chunk: () => {} };
    }
    const path = `${this.#dir}/${oid}` as HostPath;
    // Synchronous: with an await before `set`, two readers would both create and truncate.
    const file = Deno.openSync(path, { write: true, create: true, truncate: true, mode: 0o600 });
    const spool: SpoolFile = {
      oid,
      path,
      sizeBytes,
      sink: null,
      file,
      mountIds: new Set([mountId]),
      availableBytes: 0,
      done: false,
    };
    this.#files.set(oid, spool);
    let told = 0;
    const sink: ObjectSink = {
      start: (_info: ObjectInfo) => {},
      chunk: async (bytes) => {
        for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
        spool.availableBytes += bytes.length;
        if (spool.availableBytes - told >= PROGRESS_BYTES) {
          told = spool.availableBytes;
          this.#tellAll(spool);
        }
      },
    };
    spool.sink = sink;
    return sink;
  }

  /** Every byte is written. */
  finish(oid: Oid): void {
    const spool = this.#files.get(oid);
    if (spool === undefined || spool.done || spool.availableBytes < spool.sizeBytes) return;
    spool.done = true;
    spool.file?.close();
    spool.file = null;
    spool.sink = null;
    // In use right now, however long ago it was begun.
    this.#files.delete(oid);
    this.#files.set(oid, spool);
    this.#tellAll(spool);
    this.#evict();
  }

  /**
   * `sink` will get no more bytes; the mounts that were told of its file. A second reader's sink has
   * none: the first one goes on.
   */
  abandon(oid: Oid, sink: ObjectSink): number[] {
    const spool = this.#files.get(oid);
    if (spool === undefined || spool.sink !== sink) return [];
    this.#files.delete(oid);
    spool.file?.close();
    Deno.removeSync(spool.path);
    return [...spool.mountIds];
  }

  #tellAll(spool: SpoolFile): void {
    for (const mountId of spool.mountIds) this.#tellOne(spool, mountId);
  }

  #tellOne({ oid, path, sizeBytes, availableBytes }: SpoolFile, mountId: number): void {
    this.#tell({ kind: "spool", mountId, oid, path, sizeBytes, availableBytes });
  }

  #evict(): void {
    let total = 0;
    for (const { done, sizeBytes } of this.#files.values()) if (done) total += sizeBytes;
    // The last one is what somebody reads right now.
    const candidates = [...this.#files.values()].filter(({ done }) => done).slice(0, -1);
    for (const spool of candidates) {
      if (total <= this.#quotaBytes) return;
      total -= spool.sizeBytes;
      this.#files.delete(spool.oid);
      Deno.removeSync(spool.path);
    }
  }
}
