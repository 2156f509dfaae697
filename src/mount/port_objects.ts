/**
 * Trees, sizes and bytes for one mount: from memory, the base, the store's packs, a spool file, the
 * user's git directory; what is not there is asked of main, and comes back as a command.
 *
 * A blob that only the user's git directory has (src/git/user_objects.ts), because the user's git
 * has fetched it:
 *
 *     found, before it is asked for   served, and borrowed: main imports it into the view
 *     borrowed                        served from memory or from there; asked for when it has gone
 *     `imported`                      one of the packs' as others; if it did not come, borrowed
 *
 * What is shown as a checkout would write it (an id with a suffix) is served from the file that
 * main has made of it:
 *
 *     its file is there                   served
 *     the blob is not here, or arriving   the blob is wanted; when it has come, looked at again
 *     the blob is here                    `convert`, with what else of the directory is ready for it
 *
 * Invariants
 *  1. An oid is asked for once, until its answer comes; so is a conversion.
 *  2. A size once known is never unknown again while a node shows it: the base keeps it, also
 *     those that are found here.
 *  3. After a failure the same need fails at once for FAILED_MS, then is asked for again.
 */

import { LRUCache } from "lru-cache";
import { ERRNO, FsError } from "../errno.ts";
import { type BaseId, isConverted, plainOid } from "../git/base_id.ts";
import { type ObjectFormat, type Oid, OID_BYTES } from "../git/oid.ts";
import { type Arriving, type PackReader, sizesOf } from "../git/pack_reader.ts";
import type { Need } from "../hydrate/messages.ts";
import type { BaseStore } from "../snapshot/store.ts";
import { closeFd, O, openFd, preadFull } from "../sys/mod.ts";
import { Directory } from "../vfs/directory.ts";
import { type Objects, waitKey } from "../vfs/objects.ts";
import { ConvertAhead } from "./convert_ahead.ts";
import type { ConvertedFiles } from "./converted.ts";
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
/** Big blobs, and converted files, kept open. */
const SPOOLS_MAX = 32;
/** One failed read(2) is sent twice, and tools try again: they need not wait each time. */
const FAILED_MS = 5_000;
/** Trees kept as they came: the base has them, unless its disk is full. */
const RAW_BYTES_MAX = 1024 * 1024;

interface SpoolReader {
  readonly fd: number;
  readonly sizeBytes: number;
  availableBytes: number;
}

/** Where blobs may be that nobody has to be asked for. */
export interface BlobSource {
  /** Undefined: not to be had here. What is given out hashes to its name. Never throws. */
  read(oid: Oid): Uint8Array<ArrayBuffer> | undefined;
  close(): void;
}

export class PortObjects implements Objects {
  readonly #base: BaseStore;
  readonly #packs: PackReader;
  readonly #format: ObjectFormat;
  readonly #converted: ConvertedFiles;
  readonly #ahead = new ConvertAhead({
    directoryAtHand: (treeId) => this.directoryAtHand(treeId),
    stateOf: (id) => this.#conversionState(id),
  });
  readonly #ask: (event: MountEvent) => void;
  readonly #now: () => number;
  readonly #directories = new LRUCache<BaseId, Directory>({
    maxSize: DIRECTORY_ENTRIES_MAX,
    // One that is larger than all of the room is kept alone, not parsed again for each look.
    sizeCalculation: ({ entries }) => Math.min(entries.length + 1, DIRECTORY_ENTRIES_MAX),
  });
  readonly #raws = new LRUCache<Oid, Uint8Array<ArrayBuffer>>({
    maxSize: RAW_BYTES_MAX,
    sizeCalculation: (bytes) => bytes.length + 1,
  });
  readonly #contents = new LRUCache<Oid, Uint8Array<ArrayBuffer>>({
    maxSize: CONTENT_BYTES_MAX,
    sizeCalculation: (bytes) => bytes.length + 1,
  });
  // Not `max`: that would make room for all of them at once, some 10 ms of every mount's start.
  readonly #sizes = new LRUCache<BaseId, number>({ maxSize: SIZES_MAX, sizeCalculation: () => 1 });
  /**
   * Sizes of what has arrived in packs that are not complete, and of what is borrowed: the base
   * keeps the former when they are, and what is in the base counts as being here.
   */
  readonly #arrivingSizes = new Map<Oid, number>();
  #untold: [Oid, number][] = [];
  readonly #user: BlobSource;
  /** Blobs of the user's git directory that are not in the packs. */
  readonly #borrowed = new Set<Oid>();
  /** Blobs read from packs since the last want. */
  #read = 0;
  /** Least recently read first. One that was closed is asked for again. */
  readonly #spools = new Map<BaseId, SpoolReader>();
  readonly #asked = new Set<string>();
  /** Conversions that wait for a blob, by its key. */
  readonly #waiting = new Map<string, Set<BaseId>>();
  /** Until when a need fails at once. */
  readonly #failed = new Map<string, number>();

  constructor(
    base: BaseStore,
    packs: PackReader,
    format: ObjectFormat,
    converted: ConvertedFiles,
    user: BlobSource,
    ask: (event: MountEvent) => void,
    now: () => number = () => performance.now(),
  ) {
    this.#user = user;
    this.#base = base;
    this.#packs = packs;
    this.#format = format;
    this.#converted = converted;
    this.#ask = ask;
    this.#now = now;
  }

  directory(treeId: BaseId): Directory | undefined {
    const atHand = this.directoryAtHand(treeId);
    if (atHand === undefined) {
      const treeOid = plainOid(treeId);
      this.#want(waitKey("tree", treeOid), () => ({ kind: "want-tree", treeOid }));
    }
    return atHand;
  }

  directoryAtHand(treeId: BaseId): Directory | undefined {
    const cached = this.#directories.get(treeId);
    if (cached !== undefined) return cached;
    const treeOid = plainOid(treeId);
    const raw = this.#raws.get(treeOid) ?? this.#base.tree(treeOid);
    return raw === null ? undefined : this.#parse(treeId, raw);
  }

  size(blobId: BaseId, treeIds: () => BaseId[]): number | undefined {
    const atHand = this.sizeAtHand(blobId);
    if (atHand !== undefined) return atHand;
    if (isConverted(blobId)) return this.#wantConverted(blobId, treeIds);
    const found = this.#findSize(blobId) ?? this.#borrow("size", blobId)?.length;
    if (found === undefined) this.#wantBlob("size", blobId, treeIds);
    return found;
  }

  sizeAtHand(blobId: BaseId): number | undefined {
    const cached = this.#sizes.get(blobId);
    if (cached !== undefined) return cached;
    const kept = isConverted(blobId)
      ? this.#converted.size(blobId)
      : this.#arrivingSizes.get(blobId) ?? this.#base.size(blobId);
    if (kept !== undefined && !this.#isArriving(blobId)) this.#sizes.set(blobId, kept);
    return kept;
  }

  #isArriving(blobId: BaseId): boolean {
    return !isConverted(blobId) && this.#arrivingSizes.has(blobId);
  }

  sizesAtHand(blobIds: readonly BaseId[]): ReadonlyMap<BaseId, number> {
    const known = new Map<BaseId, number>();
    const others: Oid[] = [];
    for (const id of blobIds) {
      const size = isConverted(id)
        ? this.sizeAtHand(id)
        : this.#sizes.get(id) ?? this.#arrivingSizes.get(id);
      if (size !== undefined) known.set(id, size);
      else if (!isConverted(id)) others.push(id);
    }
    if (others.length === 0) return known;
    for (const [oid, size] of this.#base.sizes(others)) {
      this.#sizes.set(oid, size);
      known.set(oid, size);
    }
    return known;
  }

  heldSize(blobId: BaseId): number | undefined {
    return isConverted(blobId) ? this.sizeAtHand(blobId) : this.#packs.keptSize(blobId);
  }

  isDriven(blobId: BaseId): boolean {
    return this.#converted.isDriven(blobId);
  }

  keepSize(blobId: BaseId, sizeBytes: number): void {
    this.#sizes.set(blobId, sizeBytes);
    // Of what was converted the file says it.
    if (isConverted(blobId)) return;
    if (this.#untold.push([blobId, sizeBytes]) >= UNTOLD_MAX) this.tellSizes();
  }

  read(
    blobId: BaseId,
    offset: number,
    into: Uint8Array<ArrayBuffer>,
    treeIds: () => BaseId[],
  ): number | undefined {
    const spool = this.#spools.get(blobId) ?? this.#openConverted(blobId);
    if (spool !== undefined) {
      this.#spools.delete(blobId);
      this.#spools.set(blobId, spool);
      const end = Math.min(spool.sizeBytes, offset + into.length);
      if (end <= offset) return 0;
      if (end > spool.availableBytes) {
        // The hydrator tells when more has come; a failure ends the wait.
        this.#throwIfFailed(waitKey("content", blobId));
        return undefined;
      }
      return preadFull(spool.fd, into.subarray(0, end - offset), offset);
    }
    if (isConverted(blobId)) return this.#wantConverted(blobId, treeIds);
    const bytes = this.#contents.get(blobId) ?? this.#packs.read(blobId, "blob") ??
      this.#borrow("content", blobId);
    if (bytes !== undefined) {
      if (offset === 0) this.#read++;
      // Who does not get all of it comes again.
      if (offset + into.length < bytes.length) this.#contents.set(blobId, bytes);
      const part = bytes.subarray(offset, offset + into.length);
      into.set(part);
      return part.length;
    }
    this.#wantBlob("content", blobId, treeIds);
    return undefined;
  }

  release(blobId: BaseId): void {
    const spool = this.#spools.get(blobId);
    if (spool === undefined) return;
    this.#spools.delete(blobId);
    closeFd(spool.fd);
  }

  /** Takes in an answer; the keys to wake. */
  accept(command: MountCommand): string[] {
    const keys = this.#accept(command);
    for (const key of [...keys]) {
      for (const id of this.#waiting.get(key) ?? []) keys.push(...keysOf(id));
      this.#waiting.delete(key);
    }
    return keys;
  }

  #accept(command: MountCommand): string[] {
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
      case "imported":
        this.#acceptImported();
        return [];
      case "spool":
        return [this.#acceptSpool(command)];
      case "converted":
        return this.#acceptConverted(command.ids.split("\n"), new Float64Array(command.sizes));
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
    const id = key.slice(key.indexOf(":") + 1) as BaseId;
    if (!isConverted(id)) return;
    this.#asked.delete(convertKey(id));
    this.#asked.delete(waitKey("size", plainOid(id)));
  }

  close(): void {
    for (const { fd } of this.#spools.values()) closeFd(fd);
    this.#spools.clear();
    this.#packs.close();
    this.#user.close();
    this.#converted.close();
    this.#base.close();
  }

  /** What waits and can be read now, while the rest of its pack arrives; its answer comes later. */
  #acceptArriving(arriving: Arriving): string[] {
    this.#packs.addArriving(arriving);
    const keys: string[] = [];
    for (const [oid, size] of sizesOf(arriving, this.#format)) {
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

  /** A blob of the user's git directory, unless it was asked for. */
  #borrow(need: Need, oid: Oid): Uint8Array<ArrayBuffer> | undefined {
    if (this.#asked.has(waitKey(need, oid))) return undefined;
    const bytes = this.#user.read(oid);
    if (bytes === undefined) return undefined;
    this.#contents.set(oid, bytes);
    // Not of the base, in which a size says that the blob is here.
    if (this.sizeAtHand(oid) === undefined) this.#arrivingSizes.set(oid, bytes.length);
    if (!this.#borrowed.has(oid)) {
      this.#borrowed.add(oid);
      this.#ask({ kind: "borrowed", oid });
    }
    return bytes;
  }

  #acceptImported(): void {
    this.#packs.expectPacks();
    for (const oid of this.#borrowed) {
      if (this.#packs.keptSize(oid) === undefined) continue;
      this.#borrowed.delete(oid);
      const size = this.#arrivingSizes.get(oid);
      if (size === undefined) continue;
      this.#arrivingSizes.delete(oid);
      this.#sizes.set(oid, size);
    }
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
    this.#raws.set(treeOid, new Uint8Array(raw));
    return this.#answered(key);
  }

  #acceptSpool(command: MountCommand & { kind: "spool" }): string {
    const { oid, path, sizeBytes, availableBytes } = command;
    const key = waitKey("content", oid);
    const spool = this.#spools.get(oid);
    if (spool !== undefined) spool.availableBytes = availableBytes;
    else {
      this.#makeRoom();
      try {
        this.#spools.set(oid, { fd: openFd(path, O.RDONLY), sizeBytes, availableBytes });
      } catch {
        // Evicted between the message and now.
        return this.#fail(key);
      }
    }
    return this.#answered(key);
  }

  #makeRoom(): void {
    for (const oldest of [...this.#spools.keys()].slice(0, -SPOOLS_MAX + 1)) this.release(oldest);
  }

  #openConverted(id: BaseId): SpoolReader | undefined {
    const opened = isConverted(id) ? this.#converted.open(id) : undefined;
    if (opened === undefined) return undefined;
    this.#makeRoom();
    return { ...opened, availableBytes: opened.sizeBytes };
  }

  #parse(treeId: BaseId, raw: Uint8Array<ArrayBuffer>): Directory {
    const directory = new Directory(raw, this.#format, this.#converted.context(treeId));
    this.#directories.set(treeId, directory);
    return directory;
  }

  /** Its file is not there. */
  #wantConverted(id: BaseId, treeIds: () => BaseId[]): undefined {
    this.#throwIfFailed(convertKey(id));
    if (this.#asked.has(convertKey(id))) return;
    const oid = plainOid(id);
    if (!this.#isHere(oid)) {
      const key = waitKey("size", oid);
      this.#wantBlob("size", oid, treeIds);
      this.#waiting.set(key, (this.#waiting.get(key) ?? new Set()).add(id));
      return;
    }
    const ids = this.#ahead.with(id, treeIds());
    for (const each of ids) this.#asked.add(convertKey(each));
    this.#ask({ kind: "convert", ids });
  }

  /** git can read the blob: it is in a pack that is complete. */
  #isHere(oid: Oid): boolean {
    if (this.#arrivingSizes.has(oid)) return false;
    // Not by the base: another mount of the store may have it in its view.
    return this.#sizes.has(oid) || this.#packs.keptSize(oid) !== undefined;
  }

  #conversionState(id: BaseId): "ready" | "missing" | "other" {
    const key = convertKey(id);
    if (this.#asked.has(key) || this.#failed.has(key) || this.#converted.isDriven(id)) {
      return "other";
    }
    if (this.sizeAtHand(id) !== undefined) return "other";
    return this.#isHere(plainOid(id)) ? "ready" : "missing";
  }

  #acceptConverted(ids: readonly string[], sizes: Float64Array): string[] {
    return (ids as readonly BaseId[]).flatMap((id, i) => {
      const size = sizes[i] as number;
      // Looked at: who is told that it is there, and does not find it, would ask without end.
      if (size < 0 || this.#converted.size(id) !== size) this.#fail(convertKey(id));
      else {
        this.#answered(convertKey(id));
        this.#sizes.set(id, size);
      }
      return keysOf(id);
    });
  }

  #wantBlob(need: Need, oid: Oid, treeIds: () => BaseId[]): void {
    this.#want(waitKey(need, oid), () => {
      const read = this.#read;
      this.#read = 0;
      return { kind: "want", oid, need, trees: treeIds().map(plainOid), read };
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

function convertKey(id: BaseId): string {
  return `convert:${id}`;
}

/** What those wait for who wait for a conversion. */
function keysOf(id: BaseId): string[] {
  return [waitKey("size", id), waitKey("content", id)];
}
