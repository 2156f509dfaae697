/**
 * The index of a new mount, made from the one that `git read-tree` wrote: with the stat data that the
 * mount reports, every entry valid for the file monitor, and every directory known to have nothing
 * untracked. The first `git status` then opens no directory and reads no file but each .gitignore.
 *
 * The file has to be newer than every mtime in it: else git compares contents (is_racy_timestamp)
 * and stats all entries whenever it writes the index.
 */

import { type HostPath, NAME_MAX_BYTES } from "../path.ts";
import { fsmonitorExtension, fsmonitorOf } from "./fsmonitor.ts";
import { IndexError } from "./index_bytes.ts";
import {
  type FileStat,
  type IndexEntry,
  parseIndex,
  serializeIndex,
  withExtension,
} from "./index_file.ts";
import type { ObjectFormat } from "./oid.ts";
import { freshUntrackedCache, untrackedExtension } from "./untracked_cache.ts";

export interface FirstIndex {
  readonly format: ObjectFormat;
  /** Of the file monitor: nothing has changed since. */
  readonly token: string;
  /** Absolute, without symbolic links. */
  readonly workTree: HostPath;
  /** Content of info/exclude. */
  readonly exclude: Uint8Array;
  /** What lstat(2) will say. */
  readonly statOf: (entry: IndexEntry) => FileStat;
}

/** Nobody can open a path that is so long; and how deep it goes costs time and stack. */
const PATH_MAX_BYTES = 4096;

/** Throws IndexError. */
export function firstIndex(
  written: Uint8Array<ArrayBuffer>,
  options: FirstIndex,
): Uint8Array<ArrayBuffer> {
  const { format } = options;
  const index = parseIndex(written, format);
  if (index.entries.some(({ path }) => path.length >= PATH_MAX_BYTES)) {
    throw new IndexError("a path that is too long");
  }
  for (const entry of index.entries) entry.stat = options.statOf(entry);
  const cache = untrackedExtension(freshUntrackedCache(index, options), format);
  const monitor = fsmonitorExtension(fsmonitorOf(index, options.token, isShown));
  return serializeIndex(withExtension(withExtension(index, cache), monitor));
}

/** A mount hides names that are too long for the kernel, and git has to see that they are gone. */
function isShown({ path }: IndexEntry): boolean {
  return path.length <= NAME_MAX_BYTES ||
    path.split("/").every((name) => name.length <= NAME_MAX_BYTES);
}
