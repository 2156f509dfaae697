/**
 * Removal of repositories, and of what killed processes left.
 *
 * Order: the row goes first, then the folders, then the store when nobody else uses it. A removal
 * that was killed leaves folders without a row, and those are what removeOrphans removes.
 */

import { pathExists, removeIfExists, removeTree } from "../git/files.ts";
import { readRefs } from "../git/refs.ts";
import { dropCredentials } from "../git/store.ts";
import { hasGitDir } from "../git/placed_git_dir.ts";
import { type LocalCommits, localCommits, stagedCount } from "../git/user_git_dir.ts";
import { takeAwayGitDir } from "./git_dir.ts";
import type { Layout } from "./layout.ts";
import { takeLock, tryLock } from "./lock.ts";
import { userGitDirOf } from "./owner.ts";
import type { Registry } from "./registry.ts";
import type { RepoRecord } from "./types.ts";

/**
 * Commits and stashes that are on no remote ref, by where they are; empty: nothing would be lost.
 * Runs as the owner. Throws GitError when the user's git directory cannot be read, which does not
 * mean that it holds nothing.
 */
export async function whatExistsOnlyHere(
  record: RepoRecord,
  layout: Layout,
): Promise<LocalCommits[]> {
  const dir = userGitDirOf(record, layout);
  if (!await hasGitDir(dir)) return [];
  const { gitDir } = layout.store(record.storeId);
  const mirror = await pathExists(gitDir)
    ? await readRefs({ gitDir }, ["refs/heads", "refs/tags"])
    : new Map();
  return await localCommits(dir, [record.acquiredCommitOid, ...mirror.values()]);
}

/** Files that are staged and not committed. Runs as the owner. Throws GitError. */
export async function stagedIn(record: RepoRecord, layout: Layout): Promise<number> {
  const dir = userGitDirOf(record, layout);
  return await hasGitDir(dir) ? await stagedCount(dir) : 0;
}

export interface RemoveOptions {
  readonly layout: Layout;
  readonly registry: Registry;
  readonly signal?: AbortSignal;
}

/**
 * Removes a repository that is not mounted. The caller has ended what works on its store, if this
 * is the last repository there, and has asked whatExistsOnlyHere.
 */
export async function removeRepo(record: RepoRecord, options: RemoveOptions): Promise<void> {
  options.registry.remove(record.id);
  await removeFolders(record.id, options.layout);
  const store = options.layout.store(record.storeId);
  const lock = await takeLock(
    store.lockPath,
    options.signal === undefined ? {} : { signal: options.signal },
  );
  try {
    if (options.registry.byStore(record.storeId).length === 0) await removeTree(store.dir);
    else {
      const { credentialsPath, tokenLinkPath } = options.layout.repo(record.id);
      await dropCredentials(store.gitDir, credentialsPath);
      await dropCredentials(store.gitDir, tokenLinkPath);
    }
  } finally {
    await lock.release();
  }
}

async function removeFolders(id: string, layout: Layout): Promise<void> {
  const repo = layout.repo(id);
  await takeAwayGitDir(id, layout);
  await removeIfExists(repo.credentialsPath);
  await removeIfExists(repo.tokenLinkPath);
  await removeTree(repo.userGitDir);
  await removeTree(`${repo.userGitDir}.new`);
  await removeTree(repo.convertDir);
  await removeTree(repo.dir);
}

/**
 * Removes what no row names: left by killed acquisitions and removals. Those at work are known by
 * their locks. Returns the names of the folders removed, relative to the state root.
 */
export async function removeOrphans(layout: Layout, registry: Registry): Promise<string[]> {
  const removed: string[] = [];
  for (const id of await orphanCandidates(layout)) {
    if (registry.byId(id) !== null) continue;
    const lock = await tryLock(layout.repo(id).lockPath);
    if (lock === null) continue;
    try {
      // Again: the acquisition that held the lock may have ended since.
      if (registry.byId(id) !== null) continue;
      await removeFolders(id, layout);
      removed.push(`repos/${id}`);
    } finally {
      await lock.release();
    }
  }
  for (const id of await idsIn(layout.storesDir)) {
    if (await removeOrphanStore(id, layout, registry)) removed.push(`stores/${id}`);
  }
  return removed;
}

async function removeOrphanStore(
  storeId: string,
  layout: Layout,
  registry: Registry,
): Promise<boolean> {
  if (registry.byStore(storeId).length > 0) return false;
  const store = layout.store(storeId);
  const lock = await tryLock(store.lockPath);
  if (lock === null) return false;
  try {
    if (registry.byStore(storeId).length > 0) return false;
    await removeTree(store.dir);
    await removeIfExists(store.historyLockPath);
    return true;
  } finally {
    await lock.release();
  }
}

async function orphanCandidates(layout: Layout): Promise<Set<string>> {
  const found = await Promise.all(
    [layout.reposDir, layout.userGitDirsDir, layout.convertDirsDir, layout.credentialsDir].map(
      idsIn,
    ),
  );
  return new Set(found.flat());
}

/** The ids that a folder's entries begin with (`<id>`, `<id>.new`, `<id>.lock`). */
async function idsIn(folder: string): Promise<string[]> {
  const ids = new Set<string>();
  try {
    for await (const entry of Deno.readDir(folder)) {
      const match = /^([0-9a-f]{16})(?:\.|$)/.exec(entry.name);
      if (match !== null) ids.add(match[1] as string);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return [...ids];
}
