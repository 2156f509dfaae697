/**
 * Trees, sizes and bytes for one mount: from memory, the base, the store's packs, a spool file;
 * what is not there is asked of main, and comes back as a command.
 *
 * Invariants
 *  1. An oid is asked for once, until its answer comes.
 *  2. A size once known is never unknown again while a node shows it: the base keeps it, also
 *     those that are found here.
 *  3. After a failure the same need fails at once for FAILED_MS, then is asked for again.
 */

import { LRUCache } from "lru-cache";
import { ERRNO, FsError } from "../errno.ts";
import { hexOf, type ObjectFormat, type Oid, OID_BYTES } from "../git/oid.ts";
import type { Arriving, PackReader } from "../git/pack_reader.ts";
import type { Need } from "../hydrate/messages.ts";
import type { BaseStore } from "../snapshot/store.ts";
import { closeFd, O, openFd, preadFull } from "../sys/mod.ts";
import { Directory } from "../vfs/directory.ts";
import { type Objects, waitKey } from "../vfs/objects.ts";
import type { MountCommand, MountEvent } from "./messages.ts";

/** Entries of directories kept parsed. */
const DIRECTORY_ENTRIES_MAX = 200_000;
/** Bytes of blobs kept: the kernel keeps pages itself, so this only bridges reads of one file. */
const CONTENT_BYTES_MAX = 4 * 1024 * 1024;
/** Sizes kept beside those in the base. */
const SIZES_MAX = 100_000;
/** Sizes found here and not told yet: far fewer than are kept. */
const UNTOLD_MAX = 256;
/** Up to here a size is found by reading: the bytes are wanted next, most of the time. */
const SIZE_BY_READING_BYTES = 128 * 1024;
/** Big blobs kept open. */
const SPOOLS_MAX = 32;
/** One failed read(2) is sent twice, and tools try again: they need not wait each time. */
const FAILED_MS = 5_000;

interface SpoolReader {
  readonly fd: number;
  readonly sizeBytes: number;
  availableBytes: number;
}

export class PortObjects implements Objects {
  readonly #base: BaseStore;
  readonly #packs: PackReader;
  readonly #format: ObjectFormat;
  readonly #ask: (event: MountEvent) => void;
  readonly #now: () => number;
  readonly #directories = new LRUCache<Oid, Directory>({
    maxSize: DIRECTORY_ENTRIES_MAX,
    // One that is larger than all of the room is kept alone, not parsed again for each look.
    sizeCalculation: ({ entries }) => Math.min(entries.length + 1, DIRECTORY_ENTRIES_MAX),
  });
  readonly #contents = new LRUCache<Oid, Uint8Array<ArrayBuffer>>({
    maxSize: CONTENT_BYTES_MAX,
    sizeCalculation: (bytes) => bytes.length + 1,
  });
  // Not `max`: that would make room for all of them at once, some 10 ms of every mount's start.
  readonly #sizes = new LRUCache<Oid, number>({ maxSize: SIZES_MAX, sizeCalculation: () => 1 });
  /**
   * Sizes of what has arrived in packs that are not complete: the base keeps them when they are,
   * and what is in the base counts as being here.
   */
  readonly #arrivingSizes = new Map<Oid, number>();
  #untold: [Oid, number][] = [];
  /** Blobs read from packs since the last want. */
  #read = 0;
  /** Least recently read first. One that was closed is asked for again. */
  readonly #spools = new Map<Oid, SpoolReader>();
  readonly #asked = new Set<string>();
  /** Until when a need fails at once. */
  readonly #failed = new Map<string, number>();

  constructor(
    base: BaseStore,
    packs: PackReader,
    format: ObjectFormat,
    ask: (event: MountEvent) => void,
    now: () => number = () => performance.now(),
  ) {
    this.#base = base;
    this.#packs = packs;
    this.#format = format;
    this.#ask = ask;
    this.#now = now;
  }

  directory(treeOid: Oid): Directory | undefined {
    const atHand = this.directoryAtHand(treeOid);
    if (atHand === undefined) {
      this.#want(waitKey("tree", treeOid), () => ({ kind: "want-tree", treeOid }));
    }
    return atHand;
  }

  directoryAtHand(treeOid: Oid): Directory | undefined {
    const cached = this.#directories.get(treeOid);
    if (cached !== undefined) return cached;
    const raw = this.#base.tree(treeOid);
    return raw === null ? undefined : this.#parse(treeOid, raw);
  }

  size(blobOid: Oid, treeOids: () => Oid[]): number | undefined {
    const known = this.sizeAtHand(blobOid) ?? this.#findSize(blobOid);
    if (known === undefined) this.#wantBlob("size", blobOid, treeOids);
    return known;
  }

  sizeAtHand(blobOid: Oid): number | undefined {
    const cached = this.#sizes.get(blobOid) ?? this.#arrivingSizes.get(blobOid);
    if (cached !== undefined) return cached;
    const kept = this.#base.size(blobOid);
    if (kept !== undefined) this.#sizes.set(blobOid, kept);
    return kept;
  }

  sizesAtHand(blobOids: readonly Oid[]): ReadonlyMap<Oid, number> {
    const known = new Map<Oid, number>();
    const others: Oid[] = [];
    for (const oid of blobOids) {
      const size = this.#sizes.get(oid) ?? this.#arrivingSizes.get(oid);
      if (size === undefined) others.push(oid);
      else known.set(oid, size);
    }
    if (others.length === 0) return known;
    for (const [oid, size] of this.#base.sizes(others)) {
      this.#sizes.set(oid, size);
      known.set(oid, size);
    }
    return known;
  }

  heldSize(blobOid: Oid): number | undefined {
    return this.#packs.keptSize(blobOid);
  }

  keepSize(blobOid: Oid, sizeBytes: number): void {
    this.#sizes.set(blobOid, sizeBytes);
    if (this.#untold.push([blobOid, sizeBytes]) >= UNTOLD_MAX) this.tellSizes();
  }

  read(
    blobOid: Oid,
    offset: number,
    into: Uint8Array<ArrayBuffer>,
    treeOids: () => Oid[],
  ): number | undefined {
    const spool = this.#spools.get(blobOid);
    if (spool !== undefined) {
      this.#spools.delete(blobOid);
      this.#spools.set(blobOid, spool);
      const end = Math.min(spool.sizeBytes, offset + into.length);
      if (end <= offset) return 0;
      if (end > spool.availableBytes) {
        // The hydrator tells when more has come; a failure ends the wait.
        this.#throwIfFailed(waitKey("content", blobOid));
        return undefined;
      }
      return preadFull(spool.fd, into.subarray(0, end - offset), offset);
    }
    const bytes = this.#contents.get(blobOid) ?? this.#packs.read(blobOid, "blob");
    if (bytes !== undefined) {
      if (offset === 0) this.#read++;
      // Who does not get all of it comes again.
      if (offset + into.length < bytes.length) this.#contents.set(blobOid, bytes);
      const part = bytes.subarray(offset, offset + into.length);
      into.set(part);
      return part.length;
    }
    this.#wantBlob("content", blobOid, treeOids);
    return undefined;
  }

  release(blobOid: Oid): void {
    const spool = this.#spools.get(blobOid);
    if (spool === undefined) return;
    this.#spools.delete(blobOid);
    closeFd(spool.fd);
  }

  /** Takes in an answer; the keys to wake. */
  accept(command: MountCommand): string[] {
    switch (command.kind) {
      case "tree":
        return [this.#acceptTree(command.treeOid, command.raw)];
      case "sizes":
        return this.#acceptSizes(command.oids, new Float64Array(command.sizes));
      case "contents":
        this.#contents.set(command.oid, new Uint8Array(command.bytes));
        return [this.#answered(waitKey("content", command.oid))];
      case "arriving":
        return this.#acceptArriving(command);
      case "arrived":
        // Some of it may be there now; the answers come nevertheless.
        for (const path of command.paths) this.#packs.endArriving(path);
        this.#packs.expectPacks();
        return [...this.#asked].filter((key) => !key.startsWith("tree:"));
      case "spool":
        return [this.#acceptSpool(command)];
      case "unavailable":
        // What has come of it will not go on.
        if (command.need === "content") this.release(command.oid);
        return [this.#fail(waitKey(command.need, command.oid))];
      default:
        return [];
    }
  }

  /** Packs have come. */
  expectPacks(): void {
    this.#packs.expectPacks();
  }

  /** What was found here is to be kept by the base: a size once told is never unknown again. */
  tellSizes(): void {
    if (this.#untold.length === 0) return;
    this.#ask({ kind: "sizes", sizes: this.#untold });
    this.#untold = [];
  }

  /** No answer came: the next who needs it asks again. */
  forgetAsked(key: string): void {
    this.#asked.delete(key);
  }

  close(): void {
    for (const { fd } of this.#spools.values()) closeFd(fd);
    this.#spools.clear();
    this.#packs.close();
    this.#base.close();
  }

  /** What waits and can be read now, while the rest of its pack arrives; its answer comes later. */
  #acceptArriving(arriving: Arriving): string[] {
    this.#packs.addArriving(arriving);
    const oids = new Uint8Array(arriving.oids);
    const bytes = OID_BYTES[this.#format];
    const keys: string[] = [];
    for (const [i, size] of new Float64Array(arriving.sizes).entries()) {
      const oid = hexOf(oids, i * bytes, bytes);
      this.#arrivingSizes.set(oid, size);
      for (const key of [waitKey("size", oid), waitKey("content", oid)]) {
        if (this.#asked.has(key)) keys.push(key);
      }
    }
    return keys;
  }

  /** From the packs, with the bytes. */
  #findSize(oid: Oid): number | undefined {
    const bytes = this.#packs.read(oid, "blob", SIZE_BY_READING_BYTES);
    if (bytes === undefined) return undefined;
    this.#contents.set(oid, bytes);
    this.keepSize(oid, bytes.length);
    return bytes.length;
  }

  #acceptSizes(oids: string, sizes: Float64Array): string[] {
    return Array.from(sizes, (size, i) => {
      const oid = this.#oidAt(oids, i);
      this.#sizes.set(oid, size);
      this.#arrivingSizes.delete(oid);
      return this.#answered(waitKey("size", oid));
    });
  }

  #oidAt(oids: string, index: number): Oid {
    const digits = 2 * OID_BYTES[this.#format];
    return oids.slice(index * digits, (index + 1) * digits) as Oid;
  }

  #acceptTree(treeOid: Oid, raw: ArrayBuffer | null): string {
    const key = waitKey("tree", treeOid);
    if (raw === null) return this.#fail(key);
    this.#parse(treeOid, new Uint8Array(raw));
    return this.#answered(key);
  }

  #acceptSpool(command: MountCommand & { kind: "spool" }): string {
    const { oid, path, sizeBytes, availableBytes } = command;
    const key = waitKey("content", oid);
    const spool = this.#spools.get(oid);
    if (spool !== undefined) spool.availableBytes = availableBytes;
    else {
      for (const oldest of [...this.#spools.keys()].slice(0, -SPOOLS_MAX + 1)) this.release(oldest);
      try {
        this.#spools.set(oid, { fd: openFd(path, O.RDONLY), sizeBytes, availableBytes });
      } catch {
        // Evicted between the message and now.
        return this.#fail(key);
      }
    }
    return this.#answered(key);
  }

  #parse(treeOid: Oid, raw: Uint8Array<ArrayBuffer>): Directory {
    const directory = new Directory(raw, this.#format);
    this.#directories.set(treeOid, directory);
    return directory;
  }

  #wantBlob(need: Need, oid: Oid, treeOids: () => Oid[]): void {
    this.#want(waitKey(need, oid), () => {
      const read = this.#read;
      this.#read = 0;
      return { kind: "want", oid, need, trees: treeOids(), read };
    });
  }

  #want(key: string, event: () => MountEvent): void {
    this.#throwIfFailed(key);
    if (this.#asked.has(key)) return;
    this.#asked.add(key);
    this.#ask(event());
  }

  #throwIfFailed(key: string): void {
    const until = this.#failed.get(key);
    if (until === undefined) return;
    if (this.#now() < until) throw new FsError(ERRNO.EIO, `${key} is not available`);
    this.#failed.delete(key);
  }

  #answered(key: string): string {
    this.#asked.delete(key);
    this.#failed.delete(key);
    return key;
  }

  #fail(key: string): string {
    this.#asked.delete(key);
    this.#failed.set(key, this.#now() + FAILED_MS);
    return key;
  }
}
