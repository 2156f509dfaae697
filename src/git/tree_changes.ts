/**
 * What differs between two commits' trees, path by path: what `git diff-tree -r` lists. Trees are
 * read where we read, and what is not there in the user's git directory, as the owner.
 */

import { Failure, messageOf } from "../failure.ts";
import type { RepoPath } from "../path.ts";
import type { TreeDifference } from "./import.ts";
import type { Oid } from "./oid.ts";
import { ATTRIBUTES_FILE } from "./rule_files.ts";
import type { EntryKind, TreeEntry } from "./tree.ts";
import { TreeReader, type TreeReaderOptions } from "./tree_reader.ts";

/** A file, link or submodule, as an index has it. */
export interface TreeFile {
  readonly oid: Oid;
  /** 0100644, 0100755, 0120000, 0160000. */
  readonly mode: number;
}

export interface TreeChange {
  /** Null: it is not there. */
  readonly from: TreeFile | null;
  readonly to: TreeFile | null;
}

export interface TreeChanges extends TreeDifference {
  readonly files: ReadonlyMap<RepoPath, TreeChange>;
  /** Trees of the directories that differ, the root's path being ""; null: no directory. */
  readonly directories: ReadonlyMap<
    RepoPath,
    { readonly from: Oid | null; readonly to: Oid | null }
  >;
}

const MODES: Readonly<Record<Exclude<EntryKind, "directory">, number>> = {
  file: 0o100644,
  executable: 0o100755,
  symlink: 0o120000,
  gitlink: 0o160000,
};

/** More paths, and whoever writes them one by one is no slower. */
const CHANGES_MAX = 200_000;
const TIMEOUT_MS = 60_000;
const TREES_AT_ONCE = 64;

/** Throws Failure, also when it is too much, or when a tree is nowhere. */
export async function treeChanges(
  options: TreeReaderOptions,
  from: Oid,
  to: Oid,
): Promise<TreeChanges> {
  const trees = new TreeReader(options);
  // What is no file may let git wait for ever.
  const timer = setTimeout(() => trees.close(), TIMEOUT_MS);
  try {
    return await walk(trees, from, to);
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure("failed", `Cannot compare the trees: ${messageOf(error)}`, { cause: error });
  } finally {
    clearTimeout(timer);
    await trees.close();
  }
}

interface Pair {
  readonly path: RepoPath;
  readonly from: Oid | null;
  readonly to: Oid | null;
}

async function walk(trees: TreeReader, from: Oid, to: Oid): Promise<TreeChanges> {
  const files = new Map<RepoPath, TreeChange>();
  const directories = new Map<RepoPath, { from: Oid | null; to: Oid | null }>();
  const treeOids = new Set<Oid>();
  const blobOids = new Set<Oid>();
  const attributeOids = new Set<Oid>();
  const queue: Pair[] = from === to ? [] : [{ path: "" as RepoPath, from, to }];
  while (queue.length > 0) {
    const batch = queue.splice(0, TREES_AT_ONCE);
    const [olds, news] = await Promise.all([
      trees.read(batch.map((pair) => pair.from), { ours: false }),
      trees.read(batch.map((pair) => pair.to), { ours: false }),
    ]);
    for (const [i, pair] of batch.entries()) {
      directories.set(pair.path, { from: pair.from, to: pair.to });
      if (pair.to !== null) treeOids.add(pair.to);
      for (const { path, before, after } of differing(pair.path, olds[i], news[i])) {
        const was = fileOf(before);
        const is = fileOf(after);
        if (was !== null || is !== null) files.set(path, { from: was, to: is });
        if (is !== null && after?.kind !== "gitlink") {
          blobOids.add(is.oid);
          if (after?.name === ATTRIBUTES_FILE) attributeOids.add(is.oid);
        }
        const tree = { path, from: treeOf(before), to: treeOf(after) };
        if (tree.from !== tree.to) queue.push(tree);
      }
      if (files.size > CHANGES_MAX || queue.length > CHANGES_MAX) {
        throw new Failure("failed", "Cannot compare the trees: too many paths differ");
      }
    }
  }
  return {
    files,
    directories,
    treeOids: [...treeOids],
    blobOids: [...blobOids],
    attributeOids: [...attributeOids],
  };
}

function* differing(
  parent: RepoPath,
  olds: readonly TreeEntry[] | null | undefined,
  news: readonly TreeEntry[] | null | undefined,
): Generator<{ path: RepoPath; before: TreeEntry | null; after: TreeEntry | null }> {
  const prefix = parent === "" ? "" : `${parent}/`;
  const before = new Map(olds?.map((entry) => [entry.name, entry]));
  for (const entry of news ?? []) {
    const old = before.get(entry.name) ?? null;
    before.delete(entry.name);
    if (old?.oid === entry.oid && old.kind === entry.kind) continue;
    yield { path: `${prefix}${entry.name}` as RepoPath, before: old, after: entry };
  }
  for (const old of before.values()) {
    yield { path: `${prefix}${old.name}` as RepoPath, before: old, after: null };
  }
}

function fileOf(entry: TreeEntry | null): TreeFile | null {
  if (entry === null || entry.kind === "directory") return null;
  return { oid: entry.oid, mode: MODES[entry.kind] };
}

function treeOf(entry: TreeEntry | null): Oid | null {
  return entry?.kind === "directory" ? entry.oid : null;
}
