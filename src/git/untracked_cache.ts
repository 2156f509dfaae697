/**
 * UNTR of an index (gitformat-index; dir.c): which names of each directory are untracked, so that
 * `git status` opens none. With a file monitor git believes a directory's `valid` bit without a
 * stat, until a path in it is reported.
 *
 *     varint, ident NUL | stat of info/exclude | stat of core.excludesFile | u32 flags
 *     | oids of these two | ".gitignore" NUL | varint count of directories
 *     | directories, depth first: varint untracked, varint directories, name NUL, untracked NUL...
 *     | bitmaps: valid, check only, has a .gitignore | stats of the valid | oids of the .gitignore
 *     | NUL
 *
 * What git checks before it believes any of it: the ident, the flags, both oids, and on the way
 * down the oid of each .gitignore. What does not match is scanned again: a wrong oid costs time,
 * and only a wrong `valid` would be a false answer.
 *
 * Stats are written as zeros: without the monitor no directory matches, and all are scanned.
 */

import { createHash } from "node:crypto";
import { byteString, byteStringOfText, type HostPath } from "../path.ts";
import { readEwah, writeEwah } from "./ewah.ts";
import { ByteReader, ByteWriter, IndexError } from "./index_bytes.ts";
import type { Index, IndexExtension } from "./index_file.ts";
import { hexOf, type ObjectFormat, type Oid, OID_BYTES } from "./oid.ts";
import { IGNORE_FILE } from "./rule_files.ts";

export interface UntrackedDirectory {
  /** Byte string; "" is the root. */
  readonly name: string;
  /** Its directories, in the order of their bytes (lookup_untracked searches by halves). */
  readonly directories: UntrackedDirectory[];
  /** Names that are untracked; a directory's ends with a slash. */
  readonly untracked: readonly string[];
  readonly valid: boolean;
  readonly checkOnly: boolean;
  /** What git takes for the oid of its .gitignore; null: it has none, or git has not read it. */
  ignoreOid: Oid | null;
  /** It has a .gitattributes. Not in the file. */
  hasAttributes: boolean;
}

export interface UntrackedCache {
  /** Byte string: work tree and system. */
  readonly ident: string;
  readonly flags: number;
  /** Of info/exclude; null: there is none. */
  readonly excludeOid: Oid | null;
  /** Of core.excludesFile; null: there is none. */
  readonly excludesFileOid: Oid | null;
  /** Null: nothing is known of any directory. */
  readonly root: UntrackedDirectory | null;
}

/** DIR_SHOW_OTHER_DIRECTORIES and DIR_HIDE_EMPTY_DIRECTORIES: `status` as it is by default. */
const STATUS_FLAGS = 6;
const STAT_BYTES = 36;
/** So deep a path may be: PATH_MAX is 4096. */
const DEPTH_MAX = 2048;

const SYSTEMS: Readonly<Partial<Record<typeof Deno.build.os, string>>> = {
  linux: "Linux",
  darwin: "Darwin",
};

export interface FreshUntrackedCache {
  /** As git computes it: absolute, without symbolic links. */
  readonly workTree: HostPath;
  /** Content of info/exclude. */
  readonly exclude: Uint8Array;
  readonly format: ObjectFormat;
  /** Of the root, by freshDirectory. */
  readonly root: UntrackedDirectory;
}

/**
 * The cache of a work tree in which everything is as the index has it: no directory has anything
 * untracked. Taken to be absent: core.excludesFile. Directories that are themselves ignored are in
 * it, which git would leave out: it finds nothing in them either way, and leaves them out when it
 * scans the directory above.
 */
export function freshUntrackedCache(options: FreshUntrackedCache): UntrackedCache {
  const { workTree, exclude, format, root } = options;
  settle(root);
  return {
    ident: byteStringOfText(`Location ${workTree}, system ${SYSTEMS[Deno.build.os] ?? ""}`),
    flags: STATUS_FLAGS,
    excludeOid: excludeOid(exclude, format),
    excludesFileOid: null,
    root,
  };
}

/** A directory without anything untracked. */
export function freshDirectory(name: string): UntrackedDirectory {
  return {
    name,
    directories: [],
    untracked: [],
    valid: true,
    checkOnly: false,
    ignoreOid: null,
    hasAttributes: false,
  };
}

/** What git compares for a file of patterns that is not in the index (add_patterns). */
export function excludeOid(content: Uint8Array, format: ObjectFormat): Oid {
  // It hashes its buffer, to which it has added a newline; an empty file it does not read.
  const end = content.length === 0 ? "" : "\n";
  const hash = createHash(format).update(`blob ${content.length + end.length}\0`, "latin1");
  return hash.update(content).update(end, "latin1").digest("hex") as Oid;
}

/**
 * Sorts, and takes away the oids that are of no use or not known, after which git reads the file
 * when something changes there, as it has to anyway:
 *  - where there are no directories below, as git does, which then reads the file in no `status`;
 *  - at and below a .gitattributes. Where that has the .gitignore converted git compares a hash of
 *    its content; a wrong one would have everything below scanned, by the first `status`.
 * An oid is never below a .gitignore without one: git would scan there without its patterns.
 */
function settle(root: UntrackedDirectory): void {
  const stack = [{ directory: root, converted: false }];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const { directory } = next;
    const converted = next.converted || directory.hasAttributes;
    directory.directories.sort(byName);
    if (converted || directory.directories.length === 0) directory.ignoreOid = null;
    for (const each of directory.directories) stack.push({ directory: each, converted });
  }
}

function byName(a: UntrackedDirectory, b: UntrackedDirectory): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}

export function untrackedExtension(cache: UntrackedCache, format: ObjectFormat): IndexExtension {
  const out = new ByteWriter();
  const putOid = (oid: Oid | null) => {
    if (oid === null) out.zeros(OID_BYTES[format]);
    else out.oid(oid);
  };
  out.varint(cache.ident.length + 1);
  out.text(cache.ident);
  out.zeros(2 * STAT_BYTES);
  out.u32(cache.flags);
  putOid(cache.excludeOid);
  putOid(cache.excludesFileOid);
  out.text(IGNORE_FILE);
  if (cache.root === null) {
    out.varint(0);
    return { name: "UNTR", data: out.end() };
  }
  const all = depthFirst(cache.root);
  out.varint(all.length);
  for (const { name, directories, untracked } of all) {
    out.varint(untracked.length);
    out.varint(directories.length);
    out.text(name);
    for (const each of untracked) out.text(each);
  }
  const valid = new Uint8Array(all.length);
  const checkOnly = new Uint8Array(all.length);
  const ignores = new Uint8Array(all.length);
  for (const [rank, directory] of all.entries()) {
    if (directory.valid) valid[rank] = 1;
    if (directory.checkOnly) checkOnly[rank] = 1;
    if (directory.ignoreOid !== null) ignores[rank] = 1;
  }
  for (const each of [valid, checkOnly, ignores]) writeEwah(out, each);
  for (const { valid } of all) if (valid) out.zeros(STAT_BYTES);
  for (const { ignoreOid } of all) if (ignoreOid !== null) out.oid(ignoreOid);
  out.zeros(1);
  return { name: "UNTR", data: out.end() };
}

function depthFirst(root: UntrackedDirectory): UntrackedDirectory[] {
  const all: UntrackedDirectory[] = [];
  const stack = [root];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    all.push(next);
    for (let i = next.directories.length - 1; i >= 0; i--) {
      stack.push(next.directories[i] as UntrackedDirectory);
    }
  }
  return all;
}

/** Null: the index has none, or one that git takes for none. Throws IndexError. */
export function readUntrackedCache({ extensions, format }: Index): UntrackedCache | null {
  const extension = extensions.find(({ name }) => name === "UNTR");
  if (extension === undefined) return null;
  const reader = new ByteReader(extension.data);
  const readOid = () => {
    const oid = hexOf(reader.take(OID_BYTES[format]));
    return /^0+$/.test(oid) ? null : oid;
  };
  const ident = byteString(reader.take(reader.varint())).replace(/\0$/, "");
  reader.skip(2 * STAT_BYTES);
  const cache = {
    ident,
    flags: reader.u32(),
    excludeOid: readOid(),
    excludesFileOid: readOid(),
  };
  if (reader.text() !== IGNORE_FILE) throw new IndexError("UNTR of other ignore files");
  const count = reader.varint();
  if (count === 0) return { ...cache, root: null };
  const all: Writable<UntrackedDirectory>[] = [];
  const root = readDirectory(reader, all, 0);
  if (all.length !== count) throw new IndexError("UNTR has another count of directories");
  const valid = readEwah(reader, count);
  const checkOnly = readEwah(reader, count);
  const ignores = readEwah(reader, count);
  for (const [rank, directory] of all.entries()) {
    directory.valid = valid[rank] === 1;
    directory.checkOnly = checkOnly[rank] === 1;
    if (directory.valid) reader.skip(STAT_BYTES);
  }
  for (const [rank, directory] of all.entries()) {
    if (ignores[rank] === 1) directory.ignoreOid = readOid();
  }
  return { ...cache, root };
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

/** Appends the directory and those below it to `all`. */
function readDirectory(
  reader: ByteReader,
  all: Writable<UntrackedDirectory>[],
  depth: number,
): UntrackedDirectory {
  if (depth > DEPTH_MAX) throw new IndexError("UNTR is too deep");
  const untrackedCount = reader.varint();
  const directoryCount = reader.varint();
  const directory = { ...freshDirectory(reader.text()), untracked: [] as string[] };
  all.push(directory);
  for (let i = 0; i < untrackedCount; i++) directory.untracked.push(reader.text());
  for (let i = 0; i < directoryCount; i++) {
    directory.directories.push(readDirectory(reader, all, depth + 1));
  }
  return directory;
}
