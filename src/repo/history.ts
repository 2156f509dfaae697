/**
 * The history behind a mount: all branches and tags with all their commits and trees, no blobs; of
 * those with a single branch, that and the tags that lead into it.
 *
 * States of a store: `shallow` exists (a mount's first fetch) -> fetching -> `history-full` exists.
 * A fetch that was killed leaves the first state plus temporary files, which the next one removes.
 *
 * Write order: objects, store's refs and shallow file (git), `history-full`, each user's refs, each
 * user's shallow file. Every step may be repeated, so whatever was missed is done the next time.
 */

import type { Clock } from "../clock.ts";
import { Failure } from "../failure.ts";
import { gitCauseOf, gitFailure } from "../git/errors.ts";
import { readTextIfExists, removeIfExists, writeFileAtomically } from "../git/files.ts";
import {
  FETCH_CONFIG,
  fetchOptions,
  isShallow,
  loginsOf,
  openPacks,
  parseRemoteRefs,
  progressTo,
  readStoreConfig,
  tagOptions,
  type TransferProgress,
} from "../git/store.ts";
import { isOid } from "../git/oid.ts";
import { runTransfer } from "../git/transfer.ts";
import type { Layout, StoreLayout } from "./layout.ts";
import { takeLock, tryLock } from "./lock.ts";
import { publish, trackingOf } from "./publish.ts";
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
    const remoteHead = record.singleBranch
      ? await fetchAll(store, sourceRefspecs(repos()), { ...options, singleBranch: true })
      : await fetchWith(otherSources(repos()), store, options);
    await writeFileAtomically(store.historyFullPath, "", 0o644);
    const whole = repos().filter((repo) => repo.depth === null);
    const { unpublished } = await publish(whole, layout, { before, remoteHead });
    return { ...resultOf("full", null), failure: failureOf(unpublished), unpublished };
  } catch (error) {
    options.signal?.throwIfAborted();
    const failure = gitFailure(`fetch the history of ${record.remote}`, error);
    return resultOf(await historyOf(store), failure);
  } finally {
    await lock.release();
  }
}

/** Branches and tags. */
export const ALL_REFS = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

function resultOf(history: RepoRecord["history"], failure: Failure | null): HistoryResult {
  return {
    history,
    lastFetchAt: new Date().toISOString(),
    fetchResult: failure === null ? "ok" : failure.message,
    failure,
    unpublished: new Map(),
  };
}

function failureOf(unpublished: HistoryResult["unpublished"]): Failure | null {
  if (unpublished.size === 0) return null;
  return new Failure("failed", [...unpublished.values()].join("; "));
}

async function historyOf(store: StoreLayout): Promise<RepoRecord["history"]> {
  return await readTextIfExists(store.historyFullPath) === null ? "fetching" : "full";
}

/** What a killed fetch left. The caller holds the history's lock, so its shallow.lock is ours. */
export async function cleanUp(store: StoreLayout): Promise<void> {
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

/** What was mounted and may be on no branch and no tag: commits, and refs of another kind. */
function otherSources(repos: readonly RepoRecord[]): string[] {
  const sources = repos.map(({ sourceRef }) => sourceRef);
  return sources.filter((ref) => isOid(ref) || /^refs\/(?!heads\/|tags\/)/.test(ref));
}

/** What a store is to bring for those that want nothing else. */
export function sourceRefspecs(repos: readonly RepoRecord[]): string[] {
  const refs = repos.map(({ sourceRef }) => sourceRef);
  return [...new Set(refs)].map((ref) => isOid(ref) ? ref : `+${ref}:${ref}`);
}

/** As fetchAll; what has gone of `others` at the remote keeps nothing from the rest. */
async function fetchWith(
  others: readonly string[],
  store: StoreLayout,
  options: HistoryOptions,
): Promise<string | null> {
  try {
    return await fetchAll(store, others.map((ref) => isOid(ref) ? ref : `+${ref}:${ref}`), options);
  } catch (error) {
    if (others.length === 0 || gitCauseOf(error) !== "no-branch") throw error;
    return await fetchAll(store, [], options);
  }
}

/** Returns the branch that the remote's HEAD names, null when it names none. */
async function fetchAll(
  store: StoreLayout,
  refspecs: readonly string[],
  { singleBranch = false, ...options }: HistoryOptions & { readonly singleBranch?: boolean },
): Promise<string | null> {
  const known = await readStoreConfig(store.gitDir);
  const run = {
    gitDir: store.gitDir,
    remoteUrl: known.remoteUrl,
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
      ...tagOptions({ singleBranch }),
      "--force",
      // A branch `a` that is gone stands in the way of `a/b`.
      ...(singleBranch ? [] : ["--prune"]),
      "origin",
      ...(singleBranch ? [] : ALL_REFS),
      ...refspecs,
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
