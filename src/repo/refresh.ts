/**
 * Refreshing a store: what the remote has now becomes tracking refs and tags of the users.
 *
 *     probe    one `git ls-remote`: mostly the answer is the last one, and that is all
 *     ask      the same again, after the users' refs were read
 *     compare  with the store's refs, which mirror the remote's
 *     fetch    new commits and trees, no blobs; the store's refs follow
 *     publish  see publish.ts; also when nothing came, since an earlier one may have failed
 *
 * A store with a depth follows the branches and tags that were mounted from it, as a clone with a
 * depth does, and stays shallow: its boundary is where it was, and what was pushed since is added
 * on top. (`--depth` would cut the new commits off the old ones, and every branch would seem
 * rewritten.) A branch that really was rewritten brings the history that the remote sends then.
 *
 * A store with a single branch follows that one, and what tags there are that lead to its commits:
 * whenever the remote has tags that are not here, git looks for those.
 */

import type { Clock } from "../clock.ts";
import { Failure } from "../failure.ts";
import { gitCauseOf, gitFailure } from "../git/errors.ts";
import { readTextIfExists } from "../git/files.ts";
import { isOid, type Oid } from "../git/oid.ts";
import type { Refs } from "../git/refs.ts";
import {
  FETCH_CONFIG,
  fetchOptions,
  loginsOf,
  openPacks,
  progressTo,
  readStoreConfig,
  tagOptions,
  type TransferProgress,
} from "../git/store.ts";
import { runTransfer, type TransferOptions } from "../git/transfer.ts";
import { bytesOf, byteString, byteStringOfText } from "../path.ts";
import { ALL_REFS, cleanUp, fetchHistory } from "./history.ts";
import type { Layout, StoreLayout } from "./layout.ts";
import { takeLock } from "./lock.ts";
import { mirrorOf, publish, trackingOf } from "./publish.ts";
import type { RepoRecord } from "./types.ts";

export interface RefreshOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: TransferProgress) => void;
  /** Repositories on this store that are to see it, asked before and after the fetch. */
  readonly repos: () => readonly RepoRecord[];
  /** What all of them have seen already (`RefreshResult.remote`); null: do not probe. */
  readonly known?: string | null;
  /** Default: the real time. */
  readonly clock?: Clock;
}

export interface RefreshResult {
  readonly lastFetchAt: string;
  /** Stands for all branches and tags that the remote had; null: not known. */
  readonly remote: string | null;
  /** Null: the store is as the remote was. */
  readonly failure: Failure | null;
  /** Whether something was fetched. */
  readonly fetched: boolean;
  /** Refs that were changed, by repository id. */
  readonly changes: ReadonlyMap<string, number>;
  /** Repositories that were not given what came, by id, each with its cause. */
  readonly unpublished: ReadonlyMap<string, string>;
  /** For repositories without a depth, when this brought their first history; else null. */
  readonly history: RepoRecord["history"] | null;
}

/**
 * Brings the store of a repository up to date. A history that is not here yet is fetched whole.
 * Throws the signal's reason only; a failure is a result.
 */
export async function refreshStore(
  record: RepoRecord,
  layout: Layout,
  options: RefreshOptions,
): Promise<RefreshResult> {
  const store = layout.store(record.storeId);
  if (record.depth === null && await readTextIfExists(store.historyFullPath) === null) {
    const { lastFetchAt, failure, history, unpublished } = await fetchHistory(
      record,
      layout,
      options,
    );
    return { ...NOTHING, lastFetchAt, failure, unpublished, history, fetched: failure === null };
  }
  try {
    return await refresh(record, layout, options);
  } catch (error) {
    options.signal?.throwIfAborted();
    const failure = gitFailure(`fetch from ${record.remote}`, error);
    return { ...NOTHING, lastFetchAt: new Date().toISOString(), failure };
  }
}

const NOTHING: Omit<RefreshResult, "lastFetchAt"> = {
  remote: null,
  failure: null,
  fetched: false,
  changes: new Map(),
  unpublished: new Map(),
  history: null,
};

async function refresh(
  record: RepoRecord,
  layout: Layout,
  options: RefreshOptions,
): Promise<RefreshResult> {
  const store = layout.store(record.storeId);
  const { partial, ...config } = await readStoreConfig(store.gitDir);
  const run: TransferOptions = {
    gitDir: store.gitDir,
    remoteUrl: config.remoteUrl,
    logins: loginsOf({ partial, ...config }),
    config: FETCH_CONFIG,
    clock: options.clock,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  };
  const known = options.known ?? null;
  if (known !== null) {
    const remote = await digestOf(await askRefs(run));
    if (remote === known) return { ...NOTHING, remote, lastFetchAt: new Date().toISOString() };
  }
  // Before it is asked: what a user's own fetch or push changes from now on is newer.
  const before = await trackingOf(options.repos(), layout);
  const answer = await askRefs(run);
  const lastFetchAt = new Date().toISOString();
  const remote = parseRefs(answer);
  const { singleBranch } = record;
  const all = record.depth === null && !singleBranch;
  let mirror = await mirrorOf(store.gitDir);
  const news = all ? remote : new Map([...remote].filter(([name]) => mirror.has(name)));
  const changed = [...news].filter(([name, oid]) => mirror.get(name) !== oid);
  const followed = singleBranch && hasOtherTags(remote, mirror) ? followable(options, remote) : [];
  const fetched = changed.length > 0 || (all && news.size < mirror.size) || followed.length > 0;
  if (fetched) {
    const names = new Set([...changed.map(([name]) => name), ...followed]);
    const refspecs = all ? ALL_REFS : [...names].map((name) => `+${name}:${name}`);
    const kind = { all, singleBranch, partial };
    await fetchRefs(store, refspecs, kind, { ...run, ...transferInto(store, options) });
    mirror = await mirrorOf(store.gitDir);
  }
  const repos = options.repos();
  const published = await publish(repos, layout, { before, remoteHead: null, mirror });
  return { ...NOTHING, ...published, remote: await digestOf(answer), lastFetchAt, fetched };
}

/** Tags that may lead to commits that are here. */
function hasOtherTags(remote: Refs, mirror: Refs): boolean {
  return [...remote.keys()].some((name) => name.startsWith("refs/tags/") && !mirror.has(name));
}

/** The refs with which git brings them. */
function followable({ repos }: RefreshOptions, remote: Refs): string[] {
  const sources = repos().map(({ sourceRef }) => byteStringOfText(sourceRef));
  return sources.filter((name) => remote.has(name));
}

/** Branches and tags of the remote. Two requests at an http server. */
async function askRefs(run: TransferOptions): Promise<Uint8Array<ArrayBuffer>> {
  const args = ["ls-remote", "--refs", "--heads", "--tags", "origin"];
  return (await runTransfer(args, run)).stdout;
}

async function digestOf(answer: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", answer)).toHex();
}

function parseRefs(answer: Uint8Array): Refs {
  const refs = new Map<string, Oid>();
  for (const line of byteString(answer).split("\n")) {
    const [value = "", name = ""] = line.split("\t");
    if (isOid(value)) refs.set(name, value);
  }
  return refs;
}

function transferInto(
  { gitDir }: StoreLayout,
  { onProgress }: RefreshOptions,
): Partial<TransferOptions> {
  return {
    packDir: `${gitDir}/objects/pack`,
    background: true,
    onStderr: progressTo(onProgress),
  };
}

/** One process at a time fetches into a store's refs. */
async function fetchRefs(
  store: StoreLayout,
  refspecs: readonly string[],
  kind: { readonly all: boolean; readonly singleBranch: boolean; readonly partial: boolean },
  run: TransferOptions,
): Promise<void> {
  const lock = await takeLock(
    store.historyLockPath,
    run.signal === undefined ? {} : { signal: run.signal },
  );
  try {
    await cleanUp(store);
    const args = ["fetch", ...fetchOptions(kind.partial), ...tagOptions(kind), "--force"];
    // A branch `a` that is gone stands in the way of `a/b`.
    await runTransfer([...args, ...(kind.all ? ["--prune"] : []), "--stdin", "origin"], {
      ...run,
      stdin: bytesOf(refspecs.map((refspec) => `${refspec}\n`).join("")),
    });
  } catch (error) {
    throw gitCauseOf(error) === "no-branch" ? movedOn() : error;
  } finally {
    await lock.release();
  }
  openPacks(`${store.gitDir}/objects/pack`);
}

function movedOn(): Failure {
  return new Failure(
    "failed",
    "Cannot fetch: a branch went away between two questions to the remote; try again",
  );
}
