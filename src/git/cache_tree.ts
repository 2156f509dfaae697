/**
 * TREE of an index (gitformat-index; cache-tree.c): which directories' entries are a tree that
 * exists, so that `status` and `commit` need not build or read it again.
 *
 *     directories, depth first: name NUL, count of entries (-1: not valid), " ", count of
 *     directories, LF, and the oid of a valid one
 */

import { ByteReader, ByteWriter, IndexError } from "./index_bytes.ts";
import type { Index, IndexExtension } from "./index_file.ts";
import type { ObjectFormat, Oid } from "./oid.ts";
import { hexOf, OID_BYTES } from "./oid.ts";

export interface CacheTree {
  /** Byte string; "" is the root. */
  readonly name: string;
  /** In the file's order: by length, then by bytes (subtree_name_cmp). */
  readonly directories: readonly CacheTree[];
  /** Entries below; -1: not valid. */
  readonly entries: number;
  /** Null: not valid. */
  readonly oid: Oid | null;
}

const LINE_FEED = 10;
/** So deep a path may be: PATH_MAX is 4096. */
const DEPTH_MAX = 2048;

/** Null: the index has none. Throws IndexError. */
export function readCacheTree({ extensions, format }: Index): CacheTree | null {
  const extension = extensions.find(({ name }) => name === "TREE");
  if (extension === undefined || extension.data.length === 0) return null;
  const reader = new ByteReader(extension.data);
  const root = readDirectory(reader, format, 0);
  if (reader.left > 0) throw new IndexError("TREE has more than one root");
  return root;
}

function readDirectory(reader: ByteReader, format: ObjectFormat, depth: number): CacheTree {
  if (depth > DEPTH_MAX) throw new IndexError("TREE is too deep");
  const name = reader.text();
  const end = reader.bytes.indexOf(LINE_FEED, reader.at);
  if (end < 0) throw new IndexError("TREE ends too early");
  const line = new TextDecoder().decode(reader.take(end - reader.at));
  reader.skip(1);
  const [, count, below] = /^(-1|\d{1,10}) (\d{1,10})$/.exec(line) ?? [];
  if (count === undefined) throw new IndexError("TREE has a line that is none");
  const entries = Number(count);
  const oid = entries < 0 ? null : hexOf(reader.take(OID_BYTES[format]));
  const directories: CacheTree[] = [];
  for (let i = 0; i < Number(below); i++) {
    directories.push(readDirectory(reader, format, depth + 1));
  }
  return { name, directories, entries, oid };
}

export function cacheTreeExtension(root: CacheTree): IndexExtension {
  const out = new ByteWriter();
  const stack = [root];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const { name, directories, entries, oid } = next;
    out.text(name);
    const count = oid === null ? -1 : entries;
    out.put(new TextEncoder().encode(`${count} ${directories.length}\n`));
    if (oid !== null) out.oid(oid);
    for (let i = directories.length - 1; i >= 0; i--) stack.push(directories[i] as CacheTree);
  }
  return { name: "TREE", data: out.end() };
}

/** The order of directories in the file (cache-tree.c, subtree_name_cmp). */
export function byLengthAndName(
  a: { readonly name: string },
  b: { readonly name: string },
): number {
  return a.name.length - b.name.length || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
}
