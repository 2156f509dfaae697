/** Fields to reply bytes. errno is positive everywhere but here. */

import { bytesOf, type Name } from "../path.ts";
import {
  ATTR,
  ATTR_OUT,
  COPY_FILE_RANGE_OUT,
  DIRENT,
  DIRENT_ALIGN_BYTES,
  ENTRY_OUT,
  GETXATTR_OUT,
  INIT_OUT,
  LSEEK_OUT,
  OPEN_OUT,
  OUT_HEADER,
  STATFS_OUT,
  WRITE_OUT,
} from "./abi.ts";
import type { Attr, Attributes, DirentSink, Entry, StatFs } from "./filesystem.ts";
import type { RequestReader } from "./decode.ts";

const BODY = OUT_HEADER.sizeBytes;
const ENTRY_ATTR_AT = ENTRY_OUT.at.ino - ATTR.at.ino;
const ATTR_ATTR_AT = ATTR_OUT.at.ino - ATTR.at.ino;

export interface InitReply {
  readonly minor: number;
  readonly maxReadaheadBytes: number;
  readonly flags: number;
  readonly flags2: number;
  readonly maxBackground: number;
  readonly congestionThreshold: number;
  readonly maxWriteBytes: number;
  readonly maxPages: number;
}

/** Writes one reply into one buffer, again and again. Methods return the length of the message. */
export class ReplyWriter {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;

  constructor(maxBodyBytes: number) {
    this.bytes = new Uint8Array(BODY + maxBodyBytes);
    this.#view = new DataView(this.bytes.buffer);
  }

  get maxBodyBytes(): number {
    return this.bytes.length - BODY;
  }

  #header(request: RequestReader, errno: number, bodyBytes: number): number {
    this.#view.setUint32(OUT_HEADER.at.len, BODY + bodyBytes, true);
    this.#view.setInt32(OUT_HEADER.at.error, -errno, true);
    request.copyUnique(this.bytes, OUT_HEADER.at.unique);
    return BODY + bodyBytes;
  }

  /** Also of a negative value, as two's complement: times before 1970. */
  #u64(at: number, value: number): void {
    this.#view.setUint32(at, value >>> 0, true);
    this.#view.setUint32(at + 4, Math.floor(value / 0x100000000), true);
  }

  error(request: RequestReader, errno: number): number {
    return this.#header(request, errno, 0);
  }

  empty(request: RequestReader): number {
    return this.#header(request, 0, 0);
  }

  init(request: RequestReader, major: number, reply: InitReply): number {
    const { at, sizeBytes } = INIT_OUT;
    const view = this.#view;
    this.bytes.fill(0, BODY, BODY + sizeBytes);
    view.setUint32(BODY + at.major, major, true);
    view.setUint32(BODY + at.minor, reply.minor, true);
    view.setUint32(BODY + at.max_readahead, reply.maxReadaheadBytes, true);
    view.setUint32(BODY + at.flags, reply.flags, true);
    view.setUint16(BODY + at.max_background, reply.maxBackground, true);
    view.setUint16(BODY + at.congestion_threshold, reply.congestionThreshold, true);
    view.setUint32(BODY + at.max_write, reply.maxWriteBytes, true);
    view.setUint32(BODY + at.time_gran, 1, true);
    view.setUint16(BODY + at.max_pages, reply.maxPages, true);
    view.setUint32(BODY + at.flags2, reply.flags2, true);
    return this.#header(request, 0, sizeBytes);
  }

  #attr(at: number, attr: Attr): void {
    const view = this.#view;
    this.#u64(at + ATTR.at.ino, attr.ino);
    this.#u64(at + ATTR.at.size, attr.sizeBytes);
    this.#u64(at + ATTR.at.blocks, attr.blocks);
    this.#u64(at + ATTR.at.atime, attr.atimeSeconds);
    this.#u64(at + ATTR.at.mtime, attr.mtimeSeconds);
    this.#u64(at + ATTR.at.ctime, attr.ctimeSeconds);
    view.setUint32(at + ATTR.at.atimensec, attr.atimeNanoseconds, true);
    view.setUint32(at + ATTR.at.mtimensec, attr.mtimeNanoseconds, true);
    view.setUint32(at + ATTR.at.ctimensec, attr.ctimeNanoseconds, true);
    view.setUint32(at + ATTR.at.mode, attr.mode, true);
    view.setUint32(at + ATTR.at.nlink, attr.nlink, true);
    view.setUint32(at + ATTR.at.uid, attr.uid, true);
    view.setUint32(at + ATTR.at.gid, attr.gid, true);
    view.setUint32(at + ATTR.at.rdev, attr.rdev, true);
    view.setUint32(at + ATTR.at.blksize, 4096, true);
    view.setUint32(at + ATTR.at.flags, 0, true);
  }

  #entry(base: number, entry: Entry): void {
    const { at } = ENTRY_OUT;
    const view = this.#view;
    this.#u64(base + at.nodeid, entry.nodeid);
    this.#u64(base + at.generation, 0);
    this.#u64(base + at.entry_valid, Math.floor(entry.entryTimeoutMs / 1000));
    this.#u64(base + at.attr_valid, Math.floor(entry.attrTimeoutMs / 1000));
    view.setUint32(base + at.entry_valid_nsec, (entry.entryTimeoutMs % 1000) * 1_000_000, true);
    view.setUint32(base + at.attr_valid_nsec, (entry.attrTimeoutMs % 1000) * 1_000_000, true);
    this.#attr(base + ENTRY_ATTR_AT, entry.attr);
  }

  entry(request: RequestReader, entry: Entry): number {
    this.#entry(BODY, entry);
    return this.#header(request, 0, ENTRY_OUT.sizeBytes);
  }

  /** With a fuse_open_out: no handle, no flags. */
  entryOpened(request: RequestReader, entry: Entry): number {
    this.#entry(BODY, entry);
    const end = BODY + ENTRY_OUT.sizeBytes + OPEN_OUT.sizeBytes;
    this.bytes.fill(0, BODY + ENTRY_OUT.sizeBytes, end);
    return this.#header(request, 0, end - BODY);
  }

  attributes(request: RequestReader, attributes: Attributes): number {
    const { at } = ATTR_OUT;
    const timeoutMs = attributes.attrTimeoutMs;
    this.#u64(BODY + at.attr_valid, Math.floor(timeoutMs / 1000));
    this.#view.setUint32(BODY + at.attr_valid_nsec, (timeoutMs % 1000) * 1_000_000, true);
    this.#view.setUint32(BODY + at.dummy, 0, true);
    this.#attr(BODY + ATTR_ATTR_AT, attributes.attr);
    return this.#header(request, 0, ATTR_OUT.sizeBytes);
  }

  bytesReply(request: RequestReader, body: Uint8Array): number {
    this.bytes.set(body, BODY);
    return this.#header(request, 0, body.length);
  }

  /** Where a READ puts its bytes; then `filled` with how many they are. */
  body(lengthBytes: number): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(BODY, BODY + lengthBytes);
  }

  filled(request: RequestReader, lengthBytes: number): number {
    return this.#header(request, 0, lengthBytes);
  }

  /** Of WRITE and COPY_FILE_RANGE. */
  written(request: RequestReader, lengthBytes: number): number {
    this.#view.setUint32(BODY + WRITE_OUT.at.size, lengthBytes, true);
    this.#view.setUint32(BODY + WRITE_OUT.at.padding, 0, true);
    return this.#header(request, 0, WRITE_OUT.sizeBytes);
  }

  copied(request: RequestReader, lengthBytes: number): number {
    this.#u64(BODY + COPY_FILE_RANGE_OUT.at.bytes_copied, lengthBytes);
    return this.#header(request, 0, COPY_FILE_RANGE_OUT.sizeBytes);
  }

  offset(request: RequestReader, offset: number): number {
    this.#u64(BODY + LSEEK_OUT.at.offset, offset);
    return this.#header(request, 0, LSEEK_OUT.sizeBytes);
  }

  /** How much room a value or a list of names needs. */
  xattrSize(request: RequestReader, sizeBytes: number): number {
    this.#view.setUint32(BODY + GETXATTR_OUT.at.size, sizeBytes, true);
    this.#view.setUint32(BODY + GETXATTR_OUT.at.padding, 0, true);
    return this.#header(request, 0, GETXATTR_OUT.sizeBytes);
  }

  statfs(request: RequestReader, stats: StatFs): number {
    const { at, sizeBytes } = STATFS_OUT;
    this.bytes.fill(0, BODY, BODY + sizeBytes);
    this.#u64(BODY + at.blocks, stats.blocks);
    this.#u64(BODY + at.bfree, stats.freeBlocks);
    this.#u64(BODY + at.bavail, stats.availableBlocks);
    this.#u64(BODY + at.files, stats.files);
    this.#u64(BODY + at.ffree, stats.freeFiles);
    this.#view.setUint32(BODY + at.bsize, stats.blockSizeBytes, true);
    this.#view.setUint32(BODY + at.namelen, stats.nameMaxBytes, true);
    this.#view.setUint32(BODY + at.frsize, stats.fragmentSizeBytes, true);
    return this.#header(request, 0, sizeBytes);
  }

  /** A sink that fills at most `maxBytes` of directory records; then `filled` with its length. */
  dirents(maxBytes: number): DirentSink & { readonly lengthBytes: number } {
    // The closures keep the hot loop free of `this` look-ups.
    const bytes = this.bytes;
    const view = this.#view;
    const u64 = (at: number, value: number) => this.#u64(at, value);
    const putEntry = (at: number, entry: Entry) => this.#entry(at, entry);
    const limit = Math.min(maxBytes, this.maxBodyBytes);
    let length = 0;
    const recordBytes = (nameBytes: number) =>
      Math.ceil((DIRENT.sizeBytes + nameBytes) / DIRENT_ALIGN_BYTES) * DIRENT_ALIGN_BYTES;
    const put = (at: number, name: Name, ino: number, type: number, off: number) => {
      u64(at + DIRENT.at.ino, ino);
      u64(at + DIRENT.at.off, off);
      view.setUint32(at + DIRENT.at.namelen, name.length, true);
      view.setUint32(at + DIRENT.at.type, type, true);
      bytes.set(bytesOf(name), at + DIRENT.sizeBytes);
      bytes.fill(0, at + DIRENT.sizeBytes + name.length, at + recordBytes(name.length));
    };
    return {
      get lengthBytes() {
        return length;
      },
      fits(name) {
        return length + ENTRY_OUT.sizeBytes + recordBytes(name.length) <= limit;
      },
      add(name, ino, type, off) {
        const record = recordBytes(name.length);
        if (length + record > limit) return false;
        put(BODY + length, name, ino, type, off);
        length += record;
        return true;
      },
      addPlus(name, ino, type, off, entry) {
        const record = ENTRY_OUT.sizeBytes + recordBytes(name.length);
        if (length + record > limit) return false;
        if (entry === null) bytes.fill(0, BODY + length, BODY + length + ENTRY_OUT.sizeBytes);
        else putEntry(BODY + length, entry);
        put(BODY + length + ENTRY_OUT.sizeBytes, name, ino, type, off);
        length += record;
        return true;
      },
    };
  }
}
