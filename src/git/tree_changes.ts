/**
 * What differs between two commits' trees, path by path: what `git diff-tree -r` lists. Trees are
 * read where we read, and what is not there in the user's git directory, as the owner.
 */

import { Failure, messageOf } from "../failure.ts";
import { joinPath, type RepoPath } from "../path.ts";
import type { TreeDifference } from "./import.ts";
import type { Oid } from "./oid.ts";
import { ATTRIBUTES_FILE } from "./rule_files.ts";
import type { EntryKind, TreeEntry } from "./tree.ts";
import {
  differences,
  treeOf,
  type TreePair,
  TreeReader,
  type TreeReaderOptions,
} from "./tree_reader.ts";

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
  readonly directories: ReadonlyMap<RepoPath, TreePair>;
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

async function walk(trees: TreeReader, from: Oid, to: Oid): Promise<TreeChanges> {
  const files = new Map<RepoPath, TreeChange>();
  const directories = new Map<RepoPath, TreePair>();
  const treeOids = new Set<Oid>();
  const blobOids = new Set<Oid>();
  const attributeOids = new Set<Oid>();
  const queue: (TreePair & { readonly path: RepoPath })[] = [];
  const put = (path: RepoPath, pair: TreePair) => {
    if (pair.from === pair.to) return;
    directories.set(path, pair);
    if (pair.to !== null) treeOids.add(pair.to);
    queue.push({ path, ...pair });
  };
  put("" as RepoPath, { from, to });
  for await (const { pair, before, after } of differences(trees, queue, { onlyOurs: false })) {
    const path = joinPath(pair.path, (after ?? before as TreeEntry).name);
    const was = fileOf(before);
    const is = fileOf(after);
    if (was !== null || is !== null) files.set(path, { from: was, to: is });
    if (is !== null && after?.kind !== "gitlink") {
      blobOids.add(is.oid);
      if (after?.name === ATTRIBUTES_FILE) attributeOids.add(is.oid);
    }
    put(path, { from: treeOf(before), to: treeOf(after) });
    if (files.size > CHANGES_MAX || queue.length > CHANGES_MAX) {
      throw new Failure("failed", "Cannot compare the trees: too many paths differ");
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

function fileOf(entry: TreeEntry | null): TreeFile | null {
  if (entry === null || entry.kind === "directory") return null;
  return { oid: entry.oid, mode: MODES[entry.kind] };
}
