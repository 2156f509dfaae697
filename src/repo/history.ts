/**
 * The history behind a mount: all branches and tags with all their commits and trees, no blobs.
 *
 * States of a store: `shallow` exists (a mount's first fetch) -> fetching -> `history-full` exists.
 * A fetch that was killed leaves the first state plus temporary files, which the next one removes.
 *
 * Write order: objects, store's refs and shallow file (git), `history-full`, each user's refs, each
 * user's shallow file. Every step may be repeated, so whatever was missed is done the next time.
 */

import type { Clock } from "../clock.ts";
import { Failure, messageOf } from "../failure.ts";
import { gitFailure } from "../git/errors.ts";
import { readTextIfExists, removeIfExists, writeFileAtomically } from "../git/files.ts";
import { readRefs, type Refs } from "../git/refs.ts";
import {
  FETCH_CONFIG,
  fetchOptions,
  isShallow,
  loginsOf,
  openPacks,
  parseRemoteRefs,
  progressTo,
  readStoreConfig,
  type TransferProgress,
} from "../git/store.ts";
import { runTransfer } from "../git/transfer.ts";
import { publishRefs, readTracking } from "../git/user_git_dir.ts";
import type { Layout, StoreLayout } from "./layout.ts";
import { takeLock, tryLock } from "./lock.ts";
import { userGitDirOf } from "./owner.ts";
import type { RepoRecord } from "./types.ts";

export interface HistoryOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: TransferProgress) => void;
  /** All repositories on this store, asked before and after the fetch. Default: the one given. */
  readonly repos?: () => readonly RepoRecord[];
  /** Default: the real time. */
  readonly clock?: Clock;
}

export interface HistoryResult {
  /** For every repository of the store that has no depth of its own. */
  readonly history: RepoRecord["history"];
  readonly lastFetchAt: string;
  /** `ok`, or the cause in one line. */
  readonly fetchResult: string;
  /** Null: done. */
  readonly failure: Failure | null;
  /** Repositories that were not given what came, by id, each with its cause. */
  readonly unpublished: ReadonlyMap<string, string>;
}

/**
 * Brings the whole history into the store and shows it to the users' git, or brings a store that
 * has it up to date. A repository with a depth keeps it: nothing is fetched. One process at a time
 * does it per store, another waits. Throws the signal's reason only; a failed fetch is a result.
 */
export async function fetchHistory(
  record: RepoRecord,
  layout: Layout,
  options: HistoryOptions = {},
): Promise<HistoryResult> {
  if (record.depth !== null) return resultOf(record.history, null);
  const store = layout.store(record.storeId);
  const repos = options.repos ?? (() => [record]);
  const signal = options.signal === undefined ? {} : { signal: options.signal };
  const lock = await takeLock(store.historyLockPath, signal);
  try {
    await cleanUp(store);
    const before = await trackingOf(repos(), layout);
    const remoteHead = await fetchAll(store, options);
    await writeFileAtomically(store.historyFullPath, "", 0o644);
    return await publish(repos(), layout, before, remoteHead);
  } catch (error) {
    options.signal?.throwIfAborted();
    const failure = gitFailure(`fetch the history of ${record.remote}`, error);
    return resultOf(await historyOf(store), failure);
  } finally {
    await lock.release();
  }
}

function resultOf(history: RepoRecord["history"], failure: Failure | null): HistoryResult {
  return {
    history,
    lastFetchAt: new Date().toISOString(),
    fetchResult: failure === null ? "ok" : failure.message,
    failure,
    unpublished: new Map(),
  };
}

async function historyOf(store: StoreLayout): Promise<RepoRecord["history"]> {
  return await readTextIfExists(store.historyFullPath) === null ? "fetching" : "full";
}

/** What a killed fetch left. Its shallow.lock is ours to remove: we hold the history's lock. */
async function cleanUp(store: StoreLayout): Promise<void> {
  // A fetch of an acquisition, if one is at work, has temporary files too.
  const lock = await tryLock(store.lockPath);
  try {
    await removeIfExists(`${store.gitDir}/shallow.lock`);
    if (lock === null) return;
    await removeIfExists(`${store.gitDir}/packed-refs.lock`);
    const packDir = `${store.gitDir}/objects/pack`;
    for await (const entry of Deno.readDir(packDir)) {
      if (entry.name.startsWith("tmp_")) await removeIfExists(`${packDir}/${entry.name}`);
    }
  } finally {
    await lock?.release();
  }
}

/** Each user's tracking refs by repository id; a directory that cannot be read is left out. */
async function trackingOf(
  repos: readonly RepoRecord[],
  layout: Layout,
): Promise<Map<string, Refs>> {
  const found = new Map<string, Refs>();
  for (const repo of repos) {
    try {
      found.set(repo.id, await readTracking(userGitDirOf(repo, layout)));
    } catch {
      // It is the user's: publish says what is wrong with it.
    }
  }
  return found;
}

/** Returns the branch that the remote's HEAD names, null when it names none. */
async function fetchAll(store: StoreLayout, options: HistoryOptions): Promise<string | null> {
  const known = await readStoreConfig(store.gitDir);
  const run = {
    gitDir: store.gitDir,
    logins: loginsOf(known),
    config: FETCH_CONFIG,
    clock: options.clock,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  };
  const unshallow = await isShallow(store.gitDir) ? ["--unshallow"] : [];
  const [head, fetch] = await Promise.allSettled([
    runTransfer(["ls-remote", "--symref", "origin", "HEAD"], run),
    runTransfer([
      "fetch",
      ...fetchOptions(known.partial),
      ...unshallow,
      "--no-tags",
      "--force",
      // A branch `a` that is gone stands in the way of `a/b`.
      "--prune",
      "origin",
      "+refs/heads/*:refs/heads/*",
      "+refs/tags/*:refs/tags/*",
    ], {
      ...run,
      packDir: `${store.gitDir}/objects/pack`,
      background: true,
      onStderr: progressTo(options.onProgress),
    }),
  ]);
  if (fetch.status === "rejected") throw fetch.reason;
  openPacks(`${store.gitDir}/objects/pack`);
  if (head.status === "rejected") return null;
  return parseRemoteRefs(new TextDecoder().decode(head.value.stdout)).remoteHead;
}

/** One user's broken git directory keeps the others from nothing. */
async function publish(
  repos: readonly RepoRecord[],
  layout: Layout,
  before: ReadonlyMap<string, Refs>,
  remoteHead: string | null,
): Promise<HistoryResult> {
  const unpublished = new Map<string, string>();
  const what = "Cannot write refs into the git directory of";
  for (const repo of repos) {
    if (repo.depth !== null) continue;
    try {
      await publishTo(repo, layout, before.get(repo.id) ?? null, remoteHead);
    } catch (error) {
      unpublished.set(repo.id, `${what} ${repo.name}: ${messageOf(error)}`);
    }
  }
  const failure = unpublished.size === 0
    ? null
    : new Failure("failed", [...unpublished.values()].join("; "));
  return { ...resultOf("full", null), failure, unpublished };
}

async function publishTo(
  repo: RepoRecord,
  layout: Layout,
  before: Refs | null,
  remoteHead: string | null,
): Promise<void> {
  const dir = userGitDirOf(repo, layout);
  const { shallowPath } = layout.repo(repo.id);
  const shallow = await readTextIfExists(shallowPath) ?? "";
  const mirror = await readRefs({ gitDir: layout.store(repo.storeId).gitDir }, [
    "refs/heads",
    "refs/tags",
  ]);
  await publishRefs(dir, {
    mirror,
    before: before ?? await readTracking(dir),
    remoteHead,
    shallowLines: shallow.split("\n").filter((line) => line !== ""),
  });
  await removeIfExists(shallowPath);
}
