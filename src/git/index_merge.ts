/**
 * An index after a switch to another commit, made from the one before: the two-way merge of
 * `git read-tree -m` (git-read-tree, "Two Tree Merge") for an index that has nothing of its own at
 * any path that differs. What has is refused, for git to decide.
 *
 * Invariants
 *  1. Entries at paths that do not differ are kept as they are, with stat data and flags; what is
 *     staged there stays staged.
 *  2. A directory of TREE is valid only if its entries are that tree.
 *  3. What the file monitor and UNTR say of other paths is kept; of those that differ nothing is
 *     believed unless the mount has said how it shows now.
 *
 * A new entry has the time of the switch and no size (0), so git compares contents should the
 * monitor ever name it. Whoever installs the file dates it a second later than that (`indexTime`):
 * else git would take all new entries for racy, and stat each when it writes the index. For that
 * to be safe, no other entry of that second may keep its size: it is taken away (as by
 * ce_smudge_racily_clean_entry).
 */

import { EVERYTHING } from "../monitor_names.ts";
import { baseNameOf, joinPath, parentOf, type RepoPath } from "../path.ts";
import {
  byLengthAndName,
  type CacheTree,
  cacheTreeExtension,
  readCacheTree,
} from "./cache_tree.ts";
import { fsmonitorExtension, readFsmonitor } from "./fsmonitor.ts";
import {
  type FileStat,
  GITLINK_MODE,
  type Index,
  type IndexEntry,
  type IndexExtension,
  NO_STAT,
  serializeIndex,
} from "./index_file.ts";
import type { Oid } from "./oid.ts";
import { IGNORE_FILE } from "./rule_files.ts";
import type { TreeChanges, TreeFile } from "./tree_changes.ts";
import {
  readUntrackedCache,
  type UntrackedCache,
  type UntrackedDirectory,
  untrackedExtension,
} from "./untracked_cache.ts";

/** Entries of the other commit, not yet an index. */
export interface MergedEntries {
  readonly entries: readonly IndexEntry[];
  /** 1: of a path that differs. */
  readonly isNew: Uint8Array;
  /** 1: the file monitor's last word on it is that it may have changed. */
  readonly dirty: Uint8Array<ArrayBuffer>;
  /** Of the file monitor, when the index was written. */
  readonly token: string;
}

/** How what differs shows in the mount now. */
export interface Shown {
  /** Of the file monitor: nothing has changed since. */
  readonly token: string;
  /** Of every new entry, but for its ino. */
  readonly stat: FileStat;
  readonly inos: ReadonlyMap<RepoPath, number>;
  /** In which names came or went. */
  readonly directories: readonly RepoPath[];
  /** What the monitor named for the token before, as it would have told git. */
  readonly changedBefore: readonly string[];
}

export type Merge =
  | { readonly kind: "merged"; readonly merged: MergedEntries }
  /** In words that end "Cannot switch here: ". */
  | { readonly kind: "refused"; readonly reason: string };

/** Throws IndexError. */
export function mergeIndex(index: Index, { files }: Pick<TreeChanges, "files">): Merge {
  const monitor = readFsmonitor(index);
  if (monitor === null) return refused("the index has no file monitor");
  const special = index.entries.find(({ stage, skipWorktree }) => stage !== 0 || skipWorktree);
  if (special !== undefined) {
    const why = special.stage !== 0 ? "unmerged" : "outside the sparse checkout";
    return refused(`${JSON.stringify(special.path)} is ${why}`);
  }
  const entries: IndexEntry[] = [];
  const dirty: number[] = [];
  const isNew: number[] = [];
  const put = (entry: IndexEntry, isDirty: number, fresh: number) => {
    entries.push(entry);
    dirty.push(isDirty);
    isNew.push(fresh);
  };
  const added = [...files].filter(([, { from }]) => from === null).map(([path]) => path).sort();
  let left = files.size - added.length;
  let at = 0;
  const putAddedBefore = (path: RepoPath | null) => {
    for (let next = added[at]; next !== undefined; next = added[++at]) {
      if (path !== null && next >= path) break;
      put(newEntry(next, files.get(next)?.to as TreeFile), 0, 1);
    }
  };
  for (const [rank, entry] of index.entries.entries()) {
    const { path } = entry;
    putAddedBefore(path);
    const change = files.get(path);
    if (change === undefined) {
      put(entry, monitor.dirty[rank] ?? 0, 0);
      continue;
    }
    if (!isUntouched(entry, change.from)) {
      return refused(`${JSON.stringify(path)} is staged, or marked`);
    }
    left--;
    if (change.to !== null) put(newEntry(path, change.to), 0, 1);
  }
  putAddedBefore(null);
  if (left > 0) return refused("a path of HEAD is not in the index");
  const clash = clashOf(entries);
  if (clash !== null) return refused(`${JSON.stringify(clash)} is a file and a directory`);
  return {
    kind: "merged",
    merged: {
      entries,
      isNew: Uint8Array.from(isNew),
      dirty: Uint8Array.from(dirty),
      token: monitor.token,
    },
  };
}

function refused(reason: string): Merge {
  return { kind: "refused", reason };
}

function newEntry(path: RepoPath, { oid, mode }: TreeFile): IndexEntry {
  return {
    path,
    oid,
    mode,
    stage: 0,
    assumeValid: false,
    skipWorktree: false,
    intentToAdd: false,
    stat: NO_STAT,
  };
}

function isUntouched(entry: IndexEntry, from: TreeFile | null): boolean {
  return entry.oid === from?.oid && entry.mode === from.mode && !entry.assumeValid &&
    !entry.intentToAdd;
}

/** A path that is also the directory of another; null: none. Sorted, `a` is before `a-b` and `a/b`. */
function clashOf(entries: readonly IndexEntry[]): RepoPath | null {
  const files = new Set(entries.map(({ path }) => path));
  let last: RepoPath | null = null;
  for (const { path } of entries) {
    for (let above = parentOf(path); above !== "" && above !== last; above = parentOf(above)) {
      if (files.has(above)) return above;
    }
    last = parentOf(path);
  }
  return null;
}

/**
 * The index as a file. `shown` null: what differs is to be looked at by git, as after a crash.
 * Throws IndexError.
 */
export function mergedIndex(
  index: Index,
  { entries, isNew, dirty, token }: MergedEntries,
  changes: TreeChanges,
  shown: Shown | null,
): Uint8Array<ArrayBuffer> {
  const flags = dirty.slice();
  if (shown !== null) flag(flags, entries, shown.changedBefore);
  const dated = entries.map((entry, rank) => {
    if (isNew[rank] !== 1) return smudged(entry, shown);
    const ino = shown?.inos.get(entry.path);
    if (ino === undefined || entry.mode === GITLINK_MODE) flags[rank] = 1;
    return shown === null || ino === undefined ? entry : { ...entry, stat: { ...shown.stat, ino } };
  });
  const extensions: IndexExtension[] = [];
  const trees = readCacheTree(index);
  if (trees !== null) {
    extensions.push(cacheTreeExtension(newCacheTree(index, trees, dated, changes)));
  }
  const untracked = readUntrackedCache(index);
  if (untracked !== null) {
    const isLost = shown === null || shown.changedBefore.includes(EVERYTHING);
    const known = isLost ? { ...untracked, root: null } : forget(untracked, shown, changes);
    extensions.push(untrackedExtension(known, index.format));
  }
  extensions.push(fsmonitorExtension({ token: shown?.token ?? token, dirty: flags }));
  return serializeIndex({ ...index, entries: dated, extensions });
}

/** What git makes of names that the monitor gives it (fsmonitor.c, fsmonitor_refresh_callback). */
function flag(
  flags: Uint8Array,
  entries: readonly IndexEntry[],
  names: readonly string[],
): void {
  if (names.includes(EVERYTHING)) return void flags.fill(1);
  const changed = new Set<RepoPath>(names.map(withoutSlash));
  if (changed.size === 0) return;
  for (const [rank, { path }] of entries.entries()) {
    for (let at = path; at !== ""; at = parentOf(at)) {
      if (!changed.has(at)) continue;
      flags[rank] = 1;
      break;
    }
  }
}

function withoutSlash(name: string): RepoPath {
  return name.replace(/\/$/, "") as RepoPath;
}

/** What the file's own time has to be, in seconds. */
export function indexTime({ stat }: Shown): number {
  return stat.mtimeSeconds + 1;
}

function smudged(entry: IndexEntry, shown: Shown | null): IndexEntry {
  if (shown === null || entry.mode === GITLINK_MODE) return entry;
  const { stat } = entry;
  if (stat.sizeBytes === 0 || stat.mtimeSeconds < shown.stat.mtimeSeconds) return entry;
  return { ...entry, stat: { ...stat, sizeBytes: 0 } };
}

/** A directory of entries, with those below it. */
interface Folder {
  readonly name: string;
  readonly path: RepoPath;
  readonly folders: Folder[];
  count: number;
}

function newCacheTree(
  before: Index,
  trees: CacheTree,
  entries: readonly IndexEntry[],
  { directories }: TreeChanges,
): CacheTree {
  const had = new Set(foldersOf(before.entries).map(({ path }) => path));
  const make = (folder: Folder, old: CacheTree | undefined): CacheTree => {
    const { name, path, count } = folder;
    const olds = new Map(old?.directories.map((each) => [each.name, each]));
    const below = folder.folders.map((each) => make(each, olds.get(each.name)));
    below.sort(byLengthAndName);
    const oid = below.every((each) => each.oid !== null) ? oidOf(path, old) : null;
    return { name, directories: below, entries: oid === null ? -1 : count, oid };
  };
  const oidOf = (path: RepoPath, old: CacheTree | undefined): Oid | null => {
    const change = directories.get(path);
    if (change === undefined) return old?.oid ?? null;
    // Something staged may have been there before.
    if (change.from === null) return had.has(path) ? null : change.to;
    return old?.oid === change.from ? change.to : null;
  };
  const [root] = foldersOf(entries);
  return make(root as Folder, trees);
}

/** Directories of sorted entries, the root first. */
function foldersOf(entries: readonly IndexEntry[]): Folder[] {
  const root: Folder = { name: "", path: "" as RepoPath, folders: [], count: 0 };
  const all = [root];
  const open = [root];
  for (const { path } of entries) {
    let top = open.at(-1) as Folder;
    while (top.path !== "" && !path.startsWith(`${top.path}/`)) {
      open.pop();
      top = open.at(-1) as Folder;
    }
    for (;;) {
      const from = top.path === "" ? 0 : top.path.length + 1;
      const slash = path.indexOf("/", from);
      if (slash < 0) break;
      const name = path.slice(from, slash);
      const next: Folder = { name, path: path.slice(0, slash) as RepoPath, folders: [], count: 0 };
      top.folders.push(next);
      all.push(next);
      open.push(next);
      top = next;
    }
    for (const each of open) each.count++;
  }
  return all;
}

/**
 * What git does for each of the paths (dir.c, untracked_cache_invalidate_path): the directory
 * and those above it are scanned again. Where patterns have changed, so is everything below.
 */
function forget(cache: UntrackedCache, shown: Shown, { files }: TreeChanges): UntrackedCache {
  if (cache.root === null) return cache;
  const stale = new Set<RepoPath>();
  const addWithParents = (path: RepoPath) => {
    for (let at = path; !stale.has(at); at = parentOf(at)) stale.add(at);
  };
  for (const path of shown.directories) addWithParents(path);
  for (const name of shown.changedBefore) addWithParents(parentOf(withoutSlash(name)));
  const patterns = new Set<RepoPath>();
  for (const path of files.keys()) {
    if (baseNameOf(path) !== IGNORE_FILE) continue;
    patterns.add(parentOf(path));
    addWithParents(parentOf(path));
  }
  const copy = (each: UntrackedDirectory, path: RepoPath, below: boolean): UntrackedDirectory => {
    const all = below || patterns.has(path);
    const directories = each.directories.map((next) => copy(next, joinPath(path, next.name), all));
    if (!all && !stale.has(path)) return { ...each, directories };
    return { ...each, directories, valid: false, untracked: [] };
  };
  return { ...cache, root: copy(cache.root, "" as RepoPath, false) };
}
