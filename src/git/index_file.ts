/**
 * Git's index as bytes in and bytes out (gitformat-index; read-cache.c). Versions 2, 3 and 4 are
 * read; 2 (3 where a flag needs it) and 4 are written.
 *
 *     "DIRC", version, count | entries, sorted by path and stage | extensions | hash of all before
 *
 * Invariants
 *  1. What is parsed may hold anything: every read is checked, and what is not right throws.
 *  2. Extensions are kept as they are, and in their order. The two that say where in the file
 *     something is (EOIE, IEOT) are left out, as git does unless it is told to write them.
 *  3. A split index is refused: its entries are in another file.
 *
 * Whoever adds or removes entries, or changes their oids, has to replace TREE, FSMN and UNTR too.
 */

import { createHash } from "node:crypto";
import { byteString, type RepoPath } from "../path.ts";
import { ByteReader, IndexError, putVarint } from "./index_bytes.ts";
import { hexOf, type ObjectFormat, type Oid, OID_BYTES } from "./oid.ts";

/** What git compares with lstat(2): 32 bits of each; 0 where nothing is known. */
export interface FileStat {
  readonly ctimeSeconds: number;
  readonly ctimeNanoseconds: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  /** Compared only by a git that was built with USE_STDEV. */
  readonly dev: number;
  readonly ino: number;
  readonly uid: number;
  readonly gid: number;
  /** A size that is not 0 is believed; after 0 git compares contents (ie_modified). */
  readonly sizeBytes: number;
}

export interface IndexEntry {
  /** Of a directory of a sparse index with a slash at its end. */
  readonly path: RepoPath;
  readonly oid: Oid;
  /** 0100644, 0100755, 0120000, 0160000; 040000 in a sparse index. */
  readonly mode: number;
  /** 0: merged; 1 to 3: base, ours, theirs. */
  readonly stage: number;
  readonly assumeValid: boolean;
  readonly skipWorktree: boolean;
  readonly intentToAdd: boolean;
  stat: FileStat;
}

export interface IndexExtension {
  /** Four bytes, e.g. `TREE`. */
  readonly name: string;
  readonly data: Uint8Array<ArrayBuffer>;
}

export interface Index {
  readonly version: 2 | 3 | 4;
  readonly format: ObjectFormat;
  readonly entries: readonly IndexEntry[];
  readonly extensions: readonly IndexExtension[];
}

export const GITLINK_MODE = 0o160000;
export const S_IFMT = 0o170000;

const SIGNATURE = 0x44495243;
const HEADER_BYTES = 12;
/** ctime to size. */
const STAT_BYTES = 40;
const FLAGS_BYTES = 2;
const EXTENSION_HEADER_BYTES = 8;

const ASSUME_VALID = 0x8000;
const EXTENDED = 0x4000;
const STAGE_AT = 12;
/** Length of the path; as it is: so long or longer. */
const LENGTH_MASK = 0xfff;
/** Of the second flags. */
const SKIP_WORKTREE = 0x4000;
const INTENT_TO_ADD = 0x2000;

/** What says where in its file something is. */
const OF_THE_FILE: readonly string[] = ["EOIE", "IEOT"];
/** The required extensions (in lower case) that git 2.39 knows, `link` apart. */
const REQUIRED: readonly string[] = ["sdir"];

/** Throws IndexError. */
export function parseIndex(bytes: Uint8Array<ArrayBuffer>, format: ObjectFormat): Index {
  const end = bytes.length - OID_BYTES[format];
  if (end < HEADER_BYTES) throw new IndexError("it is too short");
  checkHash(bytes, end, format);
  const reader = new ByteReader(bytes.subarray(0, end));
  if (reader.u32() !== SIGNATURE) throw new IndexError("it is no index");
  const version = reader.u32();
  if (version !== 2 && version !== 3 && version !== 4) {
    throw new IndexError(`version ${version} is unknown`);
  }
  const entries = readEntries(reader, version, format);
  return { version, format, entries, extensions: readExtensions(reader) };
}

/** Zeros: it was written without a hash (index.skipHash). */
function checkHash(bytes: Uint8Array<ArrayBuffer>, end: number, format: ObjectFormat): void {
  const written = hexOf(bytes, end);
  if (/^0+$/.test(written)) return;
  const hash = createHash(format).update(bytes.subarray(0, end)).digest("hex");
  if (hash !== written) throw new IndexError("its hash is not right");
}

function readEntries(reader: ByteReader, version: number, format: ObjectFormat): IndexEntry[] {
  const count = reader.u32();
  const { bytes } = reader;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const oidBytes = OID_BYTES[format];
  const entries: IndexEntry[] = [];
  let before = "";
  let stageBefore = 0;
  for (let i = 0; i < count; i++) {
    const at = reader.skip(STAT_BYTES + oidBytes + FLAGS_BYTES);
    const flags = view.getUint16(at + STAT_BYTES + oidBytes);
    let more = 0;
    if ((flags & EXTENDED) !== 0) {
      if (version < 3) throw new IndexError("extended flags in version 2");
      more = view.getUint16(reader.skip(FLAGS_BYTES));
      if ((more & ~(SKIP_WORKTREE | INTENT_TO_ADD)) !== 0) throw new IndexError("unknown flags");
    }
    let kept = "";
    if (version === 4) {
      const strip = reader.varint();
      if (strip > before.length) throw new IndexError("a path that takes away too much");
      kept = before.slice(0, before.length - strip);
    }
    const path = kept + reader.text();
    const length = flags & LENGTH_MASK;
    if (length < LENGTH_MASK ? path.length !== length : path.length < length) {
      throw new IndexError("a path of another length");
    }
    if (version !== 4) reader.skip(paddingOf(reader.at - 1 - at) - 1);
    const stage = (flags >> STAGE_AT) & 3;
    if (path === "") throw new IndexError("an entry without a path, as in a split index");
    if (path < before || (path === before && stage <= stageBefore)) {
      throw new IndexError("paths that are not sorted");
    }
    before = path;
    stageBefore = stage;
    entries.push({
      path: path as RepoPath,
      oid: bytes.subarray(at + STAT_BYTES, at + STAT_BYTES + oidBytes).toHex() as Oid,
      mode: view.getUint32(at + 24),
      stage,
      assumeValid: (flags & ASSUME_VALID) !== 0,
      skipWorktree: (more & SKIP_WORKTREE) !== 0,
      intentToAdd: (more & INTENT_TO_ADD) !== 0,
      stat: readStat(view, at),
    });
  }
  return entries;
}

function readStat(view: DataView, at: number): FileStat {
  return {
    ctimeSeconds: view.getUint32(at),
    ctimeNanoseconds: view.getUint32(at + 4),
    mtimeSeconds: view.getUint32(at + 8),
    mtimeNanoseconds: view.getUint32(at + 12),
    dev: view.getUint32(at + 16),
    ino: view.getUint32(at + 20),
    uid: view.getUint32(at + 28),
    gid: view.getUint32(at + 32),
    sizeBytes: view.getUint32(at + 36),
  };
}

function writeStat(view: DataView, at: number, stat: FileStat, mode: number): void {
  view.setUint32(at, stat.ctimeSeconds);
  view.setUint32(at + 4, stat.ctimeNanoseconds);
  view.setUint32(at + 8, stat.mtimeSeconds);
  view.setUint32(at + 12, stat.mtimeNanoseconds);
  view.setUint32(at + 16, stat.dev);
  view.setUint32(at + 20, stat.ino);
  view.setUint32(at + 24, mode);
  view.setUint32(at + 28, stat.uid);
  view.setUint32(at + 32, stat.gid);
  view.setUint32(at + 36, stat.sizeBytes);
}

/** NULs after an entry of so many bytes in versions 2 and 3: 1 to 8, up to a multiple of 8. */
function paddingOf(length: number): number {
  return 8 - (length & 7);
}

function readExtensions(reader: ByteReader): IndexExtension[] {
  const extensions: IndexExtension[] = [];
  while (reader.left > 0) {
    const name = byteString(reader.take(4));
    const data = reader.take(reader.u32());
    if (name === "link") throw new IndexError("a split index");
    if (!/^[A-Z]/.test(name) && !REQUIRED.includes(name)) {
      throw new IndexError(`the extension ${JSON.stringify(name)} is unknown`);
    }
    if (!OF_THE_FILE.includes(name)) extensions.push({ name, data });
  }
  return extensions;
}

/** The index with an extension in place of the one of its name, or behind all others. */
export function withExtension(index: Index, extension: IndexExtension): Index {
  const { extensions } = index;
  if (!extensions.some(({ name }) => name === extension.name)) {
    return { ...index, extensions: [...extensions, extension] };
  }
  const replaced = extensions.map((each) => each.name === extension.name ? extension : each);
  return { ...index, extensions: replaced };
}

/** Whole file. Version 2 becomes 3 when an entry has a flag that needs it. */
export function serializeIndex(
  index: Index,
  version: 2 | 4 = index.version === 4 ? 4 : 2,
): Uint8Array<ArrayBuffer> {
  const { entries, extensions, format } = index;
  const out = new Uint8Array(sizeLimit(index));
  const view = new DataView(out.buffer);
  const extended = entries.some((entry) => entry.skipWorktree || entry.intentToAdd);
  view.setUint32(0, SIGNATURE);
  view.setUint32(4, version === 2 && extended ? 3 : version);
  view.setUint32(8, entries.length);
  let at = writeEntries(out, index, version);
  for (const { name, data } of extensions) {
    writeName(out, at, name, 0);
    view.setUint32(at + 4, data.length);
    out.set(data, at + EXTENSION_HEADER_BYTES);
    at += EXTENSION_HEADER_BYTES + data.length;
  }
  const hash = createHash(format).update(out.subarray(0, at)).digest();
  out.set(hash, at);
  return out.subarray(0, at + hash.length);
}

/** So many bytes are enough, in every version: a varint is no longer than padding. */
function sizeLimit({ entries, extensions, format }: Index): number {
  const oidBytes = OID_BYTES[format];
  const each = STAT_BYTES + oidBytes + 2 * FLAGS_BYTES + 8;
  let size = HEADER_BYTES + oidBytes;
  for (const { path } of entries) size += each + path.length;
  for (const { data } of extensions) size += EXTENSION_HEADER_BYTES + data.length;
  return size;
}

/** Returns where the entries end. */
function writeEntries(out: Uint8Array<ArrayBuffer>, index: Index, version: 2 | 4): number {
  const view = new DataView(out.buffer);
  const oidBytes = OID_BYTES[index.format];
  let at = HEADER_BYTES;
  let before = "";
  for (const entry of index.entries) {
    const from = at;
    const { path } = entry;
    writeStat(view, at, entry.stat, entry.mode);
    at += STAT_BYTES;
    out.subarray(at, at + oidBytes).setFromHex(entry.oid);
    at += oidBytes;
    const extended = entry.skipWorktree || entry.intentToAdd;
    view.setUint16(
      at,
      (entry.assumeValid ? ASSUME_VALID : 0) | (extended ? EXTENDED : 0) |
        (entry.stage << STAGE_AT) | Math.min(path.length, LENGTH_MASK),
    );
    at += FLAGS_BYTES;
    if (extended) {
      const more = (entry.skipWorktree ? SKIP_WORKTREE : 0) |
        (entry.intentToAdd ? INTENT_TO_ADD : 0);
      view.setUint16(at, more);
      at += FLAGS_BYTES;
    }
    let kept = 0;
    if (version === 4) {
      while (kept < before.length && before.charCodeAt(kept) === path.charCodeAt(kept)) kept++;
      at = putVarint(out, at, before.length - kept);
      before = path;
    }
    at = writeName(out, at, path, kept);
    at += version === 4 ? 1 : paddingOf(at - from);
  }
  return at;
}

/** Writes the bytes of a byte string from one of them on; returns where they end. */
function writeName(out: Uint8Array, at: number, name: string, from: number): number {
  for (let i = from; i < name.length; i++) out[at + i - from] = name.charCodeAt(i);
  return at + name.length - from;
}
