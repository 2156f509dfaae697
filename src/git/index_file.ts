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
import { bytesOf, byteString, type RepoPath } from "../path.ts";
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
  readonly stat: FileStat;
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

/** Nothing is known. */
export const NO_STAT: FileStat = Object.freeze({
  ctimeSeconds: 0,
  ctimeNanoseconds: 0,
  mtimeSeconds: 0,
  mtimeNanoseconds: 0,
  dev: 0,
  ino: 0,
  uid: 0,
  gid: 0,
  sizeBytes: 0,
});

export const GITLINK_MODE = 0o160000;
export const S_IFMT = 0o170000;
export const S_IFREG = 0o100000;
export const S_IFDIR = 0o040000;

const SIGNATURE = 0x44495243;
const HEADER_BYTES = 12;
/** ctime to size. */
const STAT_BYTES = 40;
const MODE_AT = 24;
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
  const file = openIndex(bytes, format);
  const { entries, end } = readEntries(file);
  return { version: file.version, format, entries, extensions: readExtensions(file, end) };
}

/** The bytes of an index whose header and hash are right, without the hash. */
export interface IndexBytes {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  readonly format: ObjectFormat;
  readonly version: 2 | 3 | 4;
  readonly count: number;
}

/** Throws IndexError. */
export function openIndex(written: Uint8Array<ArrayBuffer>, format: ObjectFormat): IndexBytes {
  const end = written.length - OID_BYTES[format];
  if (end < HEADER_BYTES) throw new IndexError("it is too short");
  checkHash(written, end, format);
  const bytes = written.subarray(0, end);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0) !== SIGNATURE) throw new IndexError("it is no index");
  const version = view.getUint32(4);
  if (version !== 2 && version !== 3 && version !== 4) {
    throw new IndexError(`version ${version} is unknown`);
  }
  return { bytes, view, format, version, count: view.getUint32(8) };
}

/** Zeros: it was written without a hash (index.skipHash). */
function checkHash(bytes: Uint8Array<ArrayBuffer>, end: number, format: ObjectFormat): void {
  const written = hexOf(bytes, end);
  if (/^0+$/.test(written)) return;
  const hash = createHash(format).update(bytes.subarray(0, end)).digest("hex");
  if (hash !== written) throw new IndexError("its hash is not right");
}

/** A v4 file whose paths are more bytes, all together, than so many times the file is refused. */
const EXPANSION_MAX = 64;

function readEntries(file: IndexBytes): { entries: IndexEntry[]; end: number } {
  const { bytes, view, format } = file;
  const oidBytes = OID_BYTES[format];
  const entries: IndexEntry[] = [];
  let left = EXPANSION_MAX * bytes.length;
  const end = walkEntries(file, (raw) => {
    left -= raw.pathEnd - raw.pathFrom;
    if (left < 0) throw new IndexError("paths that are too long");
    entries.push({
      path: byteString(raw.path.subarray(raw.pathFrom, raw.pathEnd)) as RepoPath,
      oid: bytes.subarray(raw.oidAt, raw.oidAt + oidBytes).toHex() as Oid,
      mode: raw.mode,
      stage: raw.stage,
      assumeValid: (raw.flags & ASSUME_VALID) !== 0,
      skipWorktree: (raw.moreFlags & SKIP_WORKTREE) !== 0,
      intentToAdd: (raw.moreFlags & INTENT_TO_ADD) !== 0,
      stat: readStat(view, raw.at),
    });
  });
  return { entries, end };
}

/** An entry as it is in the file. */
export interface RawEntry {
  /** Its stat data begin here. */
  at: number;
  oidAt: number;
  mode: number;
  stage: number;
  flags: number;
  moreFlags: number;
  /** Its path is in there, from `pathFrom` to before `pathEnd`. */
  path: Uint8Array<ArrayBuffer>;
  pathFrom: number;
  pathEnd: number;
  /** So many bytes at its beginning are those of the path before. */
  common: number;
}

/**
 * Calls `visit` for each entry, with an object that is the same each time: where an object and a
 * string for each entry would cost more than what is done with them. Returns where the entries end.
 * Throws IndexError.
 */
export function walkEntries(file: IndexBytes, visit: (entry: RawEntry) => void): number {
  const { bytes, view, version } = file;
  const reader = new ByteReader(bytes);
  const flagsAt = STAT_BYTES + OID_BYTES[file.format];
  const raw: RawEntry = {
    at: 0,
    oidAt: 0,
    mode: 0,
    stage: 0,
    flags: 0,
    moreFlags: 0,
    path: version === 4 ? new Uint8Array(256) : bytes,
    pathFrom: 0,
    pathEnd: 0,
    common: 0,
  };
  reader.at = HEADER_BYTES;
  for (let i = 0; i < file.count; i++) {
    raw.at = reader.skip(flagsAt + FLAGS_BYTES);
    raw.oidAt = raw.at + STAT_BYTES;
    raw.mode = view.getUint32(raw.at + MODE_AT);
    raw.flags = view.getUint16(raw.at + flagsAt);
    raw.moreFlags = 0;
    if ((raw.flags & EXTENDED) !== 0) {
      if (version < 3) throw new IndexError("extended flags in version 2");
      raw.moreFlags = view.getUint16(reader.skip(FLAGS_BYTES));
      if ((raw.moreFlags & ~(SKIP_WORKTREE | INTENT_TO_ADD)) !== 0) {
        throw new IndexError("unknown flags");
      }
    }
    const stageBefore = raw.stage;
    raw.stage = (raw.flags >> STAGE_AT) & 3;
    const order = readPath(reader, raw, version);
    if (order < 0 || (order === 0 && raw.stage <= stageBefore)) {
      throw new IndexError("paths that are not sorted");
    }
    const length = raw.pathEnd - raw.pathFrom;
    const written = raw.flags & LENGTH_MASK;
    if (written < LENGTH_MASK ? length !== written : length < LENGTH_MASK) {
      throw new IndexError("a path of another length");
    }
    if (version !== 4) reader.skip(paddingOf(reader.at - 1 - raw.at) - 1);
    visit(raw);
  }
  return reader.at;
}

/**
 * Reads the path of `raw`, which has the one before, and its NUL. Returns how it compares to that
 * one: positive when it comes later. In version 4 a path is what stays of the one before, which the
 * number of bytes that do not says, and the bytes that follow.
 */
function readPath(reader: ByteReader, raw: RawEntry, version: number): number {
  const { bytes } = reader;
  const before = raw.pathEnd - raw.pathFrom;
  const kept = version === 4 ? before - reader.varint() : 0;
  if (kept < 0) throw new IndexError("a path that takes away too much");
  const from = reader.at;
  const end = bytes.indexOf(0, from);
  if (end < 0) throw new IndexError("a path without an end");
  if (end === from && kept === 0) {
    throw new IndexError("an entry without a path, as in a split index");
  }
  reader.at = end + 1;
  const length = kept + end - from;
  const most = Math.min(before, length);
  let common = kept;
  while (
    common < most && raw.path[raw.pathFrom + common] === bytes[from - kept + common]
  ) common++;
  const order = common < most
    ? (bytes[from - kept + common] as number) - (raw.path[raw.pathFrom + common] as number)
    : length - before;
  raw.common = common;
  if (version !== 4) {
    raw.pathFrom = from;
    raw.pathEnd = end;
    return order;
  }
  if (length > raw.path.length) {
    const bigger = new Uint8Array(2 * length);
    bigger.set(raw.path);
    raw.path = bigger;
  }
  for (let i = kept; i < length; i++) raw.path[i] = bytes[from - kept + i] as number;
  raw.pathEnd = length;
  return order;
}

function readStat(view: DataView, at: number): FileStat {
  // As `git read-tree` leaves all of them.
  if (view.getUint32(at) === 0 && isZero(view, at)) return NO_STAT;
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

/** Whether nothing is known: all but the mode is 0. */
function isZero(view: DataView, at: number): boolean {
  for (let i = 0; i < STAT_BYTES; i += 4) {
    if (i !== MODE_AT && view.getUint32(at + i) !== 0) return false;
  }
  return true;
}

/** Writes what is before an entry's oid; `ino` in the place of the one in `stat`, its low 32 bits. */
export function writeStat(
  view: DataView,
  at: number,
  stat: FileStat,
  ino: number,
  mode: number,
): void {
  view.setUint32(at, stat.ctimeSeconds);
  view.setUint32(at + 4, stat.ctimeNanoseconds);
  view.setUint32(at + 8, stat.mtimeSeconds);
  view.setUint32(at + 12, stat.mtimeNanoseconds);
  view.setUint32(at + 16, stat.dev);
  view.setUint32(at + 20, ino);
  view.setUint32(at + MODE_AT, mode);
  view.setUint32(at + 28, stat.uid);
  view.setUint32(at + 32, stat.gid);
  view.setUint32(at + 36, stat.sizeBytes);
}

/** NULs after an entry of so many bytes in versions 2 and 3: 1 to 8, up to a multiple of 8. */
function paddingOf(length: number): number {
  return 8 - (length & 7);
}

/** Those that begin where the entries end. Throws IndexError. */
export function readExtensions({ bytes }: IndexBytes, entriesEnd: number): IndexExtension[] {
  const reader = new ByteReader(bytes);
  reader.at = entriesEnd;
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

/** An extension in the place of the one of its name, or behind all others. */
export function replaceExtension(
  extensions: readonly IndexExtension[],
  extension: IndexExtension,
): IndexExtension[] {
  if (!extensions.some(({ name }) => name === extension.name)) return [...extensions, extension];
  return extensions.map((each) => each.name === extension.name ? extension : each);
}

/** Whole file. Version 2 becomes 3 when an entry has a flag that needs it. */
export function serializeIndex(
  index: Index,
  version: 2 | 4 = index.version === 4 ? 4 : 2,
): Uint8Array<ArrayBuffer> {
  const { entries, extensions, format } = index;
  let size = HEADER_BYTES;
  // A varint is no longer than padding.
  const most = STAT_BYTES + OID_BYTES[format] + 2 * FLAGS_BYTES + 8;
  for (const { path } of entries) size += most + path.length;
  const out = new Uint8Array(size);
  const view = new DataView(out.buffer);
  const extended = entries.some((entry) => entry.skipWorktree || entry.intentToAdd);
  view.setUint32(0, SIGNATURE);
  view.setUint32(4, version === 2 && extended ? 3 : version);
  view.setUint32(8, entries.length);
  const end = writeEntries(out, index, version);
  return sealIndex(out.subarray(0, end), extensions, format);
}

/** Header and entries, and what follows them. */
export function sealIndex(
  entries: Uint8Array,
  extensions: readonly IndexExtension[],
  format: ObjectFormat,
): Uint8Array<ArrayBuffer> {
  let size = entries.length + OID_BYTES[format];
  for (const { data } of extensions) size += EXTENSION_HEADER_BYTES + data.length;
  const out = new Uint8Array(size);
  const view = new DataView(out.buffer);
  out.set(entries);
  let at = entries.length;
  for (const { name, data } of extensions) {
    out.set(bytesOf(name), at);
    view.setUint32(at + 4, data.length);
    out.set(data, at + EXTENSION_HEADER_BYTES);
    at += EXTENSION_HEADER_BYTES + data.length;
  }
  out.set(createHash(format).update(out.subarray(0, at)).digest(), at);
  return out;
}

/** Returns where the entries end. */
function writeEntries(out: Uint8Array<ArrayBuffer>, index: Index, version: 2 | 4): number {
  const { entries } = index;
  const view = new DataView(out.buffer);
  const oidBytes = OID_BYTES[index.format];
  const oids = Uint8Array.fromHex(entries.map(({ oid }) => oid).join(""));
  const names = bytesOf(entries.map(({ path }) => path).join(""));
  let at = HEADER_BYTES;
  let oidAt = 0;
  let nameAt = 0;
  let before = 0;
  for (const entry of entries) {
    const from = at;
    const { length } = entry.path;
    writeStat(view, at, entry.stat, entry.stat.ino, entry.mode);
    at += STAT_BYTES;
    for (let i = 0; i < oidBytes; i++) out[at++] = oids[oidAt++] as number;
    const extended = entry.skipWorktree || entry.intentToAdd;
    view.setUint16(
      at,
      (entry.assumeValid ? ASSUME_VALID : 0) | (extended ? EXTENDED : 0) |
        (entry.stage << STAGE_AT) | Math.min(length, LENGTH_MASK),
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
      const most = Math.min(length, before);
      while (kept < most && names[nameAt - before + kept] === names[nameAt + kept]) kept++;
      at = putVarint(out, at, before - kept);
    }
    for (let i = kept; i < length; i++) out[at++] = names[nameAt + i] as number;
    at += version === 4 ? 1 : paddingOf(at - from);
    nameAt += length;
    before = length;
  }
  return at;
}
