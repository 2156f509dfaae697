/**
 * Acquisition: from a URL to a repository that can be mounted.
 *
 * Phases: check (names, URL, git, folders), fetch (the store has the commit and its trees), prepare
 * (view and user's git directory, and what a checkout would convert; then that directory goes where
 * the user wants it).
 *
 * Invariants
 *  1. What a failed or aborted acquisition made is gone when it has ended; what was there before is
 *     as it was.
 *  2. What a killed one leaves has no row in the registry: removeOrphans takes it. The lock on the
 *     repository's id, taken before anything is made, tells it from one that is at work.
 *  3. The store's lock is held from before the store is looked at until the row is written, so that
 *     no store vanishes between the two.
 *
 * Write order: lock, credentials, store, repository's folders, a git directory elsewhere, row,
 * store's configuration.
 */

import { backoffMs, type Clock, systemClock } from "../clock.ts";
import { allToTheirEnds } from "../promises.ts";
import { Failure, messageOf } from "../failure.ts";
import { gitFailure, isTransient } from "../git/errors.ts";
import {
  makeFolder,
  pathExists,
  readTextIfExists,
  removeIfExists,
  removeTree,
  writeFileAtomically,
} from "../git/files.ts";
import { gitVersion } from "../git/process.ts";
import { parseRemote, type Remote, storeIdOf } from "../git/remote_url.ts";
import {
  type Commit,
  preferCredentials,
  prepareStore,
  readCommit,
  type StoreState,
  type TransferProgress,
} from "../git/store.ts";
import {
  ALL_BRANCHES,
  createUserGitDir,
  type NewUserGitDir,
  singleRefspec,
  userConfig,
} from "../git/user_git_dir.ts";
import { createView } from "../git/view.ts";
import type { Oid } from "../git/oid.ts";
import { byteStringOfText } from "../path.ts";
import { logger } from "../log.ts";
import { BASE_INOS, baseStat } from "./base_stats.ts";
import {
  checkBranch,
  checkDepth,
  checkName,
  checkRequiredCommit,
  realMountPoint,
} from "./checks.ts";
import { checkLogin, type GivenLogin, givenLogin, writeLogin } from "./credentials.ts";
import { freshGitDirOf, placeGitDir, takeAwayGitDir } from "./git_dir.ts";
import type { Layout } from "./layout.ts";
import { takeLock, tryLock } from "./lock.ts";
import { refsFor } from "./publish.ts";
import { readConversionConfig, rootOfIndex, type RootOptions } from "./conversion.ts";
import { ownerOf, ownersGitOf } from "./owner.ts";
import { makeStateRoot, makeStoreDir } from "./state_root.ts";
import { type RepoRecord, type RepoSettings, repoSettingsOf } from "./types.ts";

export interface AcquireRequest extends RepoSettings {
  readonly name: string;
  /** As the user gave it, with credentials; a relative path is relative to `cwd`. */
  readonly url: string;
  readonly cwd?: string;
}

export type AcquirePhase = "check" | "fetch" | "prepare";

export interface AcquireProgress {
  readonly phase: AcquirePhase;
  /** "asked" (may come again): git runs, and what follows is waiting for the remote. */
  readonly state: "begin" | "waiting" | "asked" | "transfer" | "retry" | "end";
  /** With "end". */
  readonly durationMs?: number;
  /** With "transfer". */
  readonly transfer?: TransferProgress;
}

export interface AcquireOptions {
  readonly layout: Layout;
  /** Of `newRepoId`, when something is prepared for the repository meanwhile. */
  readonly id?: string;
  /**
   * Writes the row; called last, while the locks are held. When it throws all is undone. Without it
   * the caller must insert the record before anybody may call removeOrphans or removeRepo.
   */
  readonly register?: (record: RepoRecord) => void;
  readonly onProgress?: (progress: AcquireProgress) => void;
  readonly signal?: AbortSignal;
  /** Of the fetch. Default: the real time. */
  readonly clock?: Clock;
  /** Default: LIMIT_MS. */
  readonly limitMs?: number;
}

/** How often the newest commit is asked for, when it is the network that fails. */
const ATTEMPTS = 3;
const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 5_000;
/** All that an acquisition may take; a transfer that stalls ends long before. */
const LIMIT_MS = 30 * 60_000;

/** What has to happen, last first, when an acquisition fails. */
type Undo = (() => Promise<unknown>)[];

interface Job {
  readonly request: AcquireRequest;
  readonly options: AcquireOptions;
  readonly id: string;
  readonly remote: Remote;
  readonly storeId: string;
  readonly login: GivenLogin | null;
  readonly undo: Undo;
  /** What conversions depend on; null: it was not asked for yet. */
  owners: Promise<Pick<RootOptions, "owners" | "config">> | null;
}

/** Makes a repository. Throws Failure; an abort is one too (`interrupted`). */
export async function acquire(
  request: AcquireRequest,
  options: AcquireOptions,
): Promise<RepoRecord> {
  const { signal, limitMs = LIMIT_MS } = options;
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(tooLate(request, limitMs)), limitMs);
  const signals = signal === undefined ? [late.signal] : [signal, late.signal];
  try {
    return await acquireInTime(request, { ...options, signal: AbortSignal.any(signals) });
  } catch (error) {
    throw late.signal.aborted && signal?.aborted !== true ? late.signal.reason : error;
  } finally {
    clearTimeout(timer);
  }
}

function tooLate({ name }: AcquireRequest, limitMs: number): Failure {
  const minutes = limitMs / 60_000;
  return new Failure(
    "network",
    `Cannot prepare ${JSON.stringify(name)}: it was not done within ${minutes} minutes; try again`,
  );
}

async function acquireInTime(
  request: AcquireRequest,
  options: AcquireOptions,
): Promise<RepoRecord> {
  const remote = await phase(options, "check", () => check(request, options));
  const { layout, id = newRepoId() } = options;
  const job: Job = {
    request,
    options,
    id,
    remote,
    storeId: storeIdOf(remote.url, request),
    login: givenLogin(remote, request.tokenFile, layout.repo(id)),
    undo: [],
    owners: null,
  };
  const lock = await takeLock(layout.repo(id).lockPath);
  try {
    return await withStoreLock(job, () => make(job));
  } catch (error) {
    await undoAll(job.undo);
    throw failureOf(job, error);
  } finally {
    await lock.release();
  }
}

async function check(request: AcquireRequest, options: AcquireOptions): Promise<Remote> {
  const remote = checkSourceRequest(request);
  await Promise.all([gitVersion(), makeStateRoot(options.layout)]);
  return remote;
}

/** All that can be told without the network. Throws Failure. */
export function checkSourceRequest(request: AcquireRequest): Remote {
  checkName(request.name);
  if (request.branch !== null) checkBranch(request.branch);
  if (request.depth !== null) checkDepth(request.depth);
  if (request.requiredCommitOid !== null) {
    checkRequiredCommit(request.requiredCommitOid);
    if (request.preparedGitDir) {
      throw new Failure("usage", "Cannot require a commit in a prepared git directory");
    }
  }
  ownerOf(request);
  const remote = parseRemote(request.url, request.cwd);
  checkLogin(remote, request.tokenFile);
  return remote;
}

/** 16 hex digits. */
export function newRepoId(): string {
  return crypto.getRandomValues(new Uint8Array(8)).toHex();
}

async function phase<T>(
  options: AcquireOptions,
  name: AcquirePhase,
  run: () => Promise<T>,
): Promise<T> {
  const start = performance.now();
  options.onProgress?.({ phase: name, state: "begin" });
  options.signal?.throwIfAborted();
  const result = await run();
  options.onProgress?.({ phase: name, state: "end", durationMs: performance.now() - start });
  return result;
}

function signalOf(job: Job): { signal?: AbortSignal } {
  return job.options.signal === undefined ? {} : { signal: job.options.signal };
}

async function withStoreLock<T>(job: Job, run: () => Promise<T>): Promise<T> {
  const store = job.options.layout.store(job.storeId);
  const lock = await takeLock(store.lockPath, {
    ...signalOf(job),
    onWait: () => job.options.onProgress?.({ phase: "fetch", state: "waiting" }),
  });
  try {
    return await run();
  } catch (error) {
    // Under the lock: another acquisition that waits for it must not see what is being removed.
    await undoAll(job.undo);
    throw error;
  } finally {
    await lock.release();
  }
}

async function undoAll(undo: Undo): Promise<void> {
  for (let step = undo.pop(); step !== undefined; step = undo.pop()) {
    try {
      await step();
    } catch {
      // The rest is still to be undone, and removeOrphans comes by later.
    }
  }
}

function failureOf(job: Job, error: unknown): Failure {
  const action = `mount ${job.remote.url}`;
  if (job.options.signal?.aborted === true) {
    return new Failure("failed", `Cannot ${action}: interrupted; nothing was left behind`, {
      cause: error,
    });
  }
  return gitFailure(action, error);
}

async function make(job: Job): Promise<RepoRecord> {
  const { options } = job;
  const state = await phase(options, "fetch", () => fetchStore(job));
  const record = await phase(options, "prepare", async () => {
    const base = readBase(job, state);
    if (job.request.requiredCommitOid !== null) checkSource(job, await base);
    const [, made, owners] = await allToTheirEnds([
      base,
      makeRepo(job, state, base),
      ownersOf(job),
    ]);
    const record = await recordOf(job, state, await base);
    const whole = await withConversion(job, record, made.attributes, owners);
    await place(job, made.gitDir);
    return whole;
  });
  options.signal?.throwIfAborted();
  options.register?.(record);
  job.undo.length = 0;
  if (!state.created && job.login !== null) {
    await preferCredentials(options.layout.store(job.storeId).gitDir, job.login.source.path);
  }
  return record;
}

async function fetchStore(job: Job): Promise<StoreState> {
  const { layout, onProgress, clock } = job.options;
  const store = layout.store(job.storeId);
  if (job.login !== null) {
    const { path } = job.login.source;
    job.undo.push(() => removeIfExists(path));
    await writeLogin(job.login, ownerOf(job.request));
  }
  if (await makeStoreDir(layout, job.storeId) || !await pathExists(store.gitDir)) {
    job.undo.push(() => removeTree(store.dir));
  }
  const history = await tryLock(store.historyLockPath);
  try {
    return await withAttempts(job, () =>
      prepareStore({
        remoteUrl: job.remote.url,
        credentials: job.login?.source ?? null,
        branch: job.request.branch,
        depth: job.request.depth,
        singleBranch: job.request.singleBranch,
        storeDir: store.dir,
        gitDir: store.gitDir,
        mayDeepen: history !== null,
        ...signalOf(job),
        clock,
        onAsked: () => {
          ownersOf(job);
          onProgress?.({ phase: "fetch", state: "asked" });
        },
        onProgress: (transfer) => onProgress?.({ phase: "fetch", state: "transfer", transfer }),
      }));
  } finally {
    await history?.release();
  }
}

/** What the network spoils is tried again, ATTEMPTS times in all. Throws as `work`. */
async function withAttempts<T>(job: Job, work: () => Promise<T>): Promise<T> {
  const { onProgress, signal, clock = systemClock } = job.options;
  const log = logger("acquire");
  for (let attempt = 1;; attempt++) {
    try {
      const result = await work();
      if (attempt > 1) log.info("Fetched after all", { repo: job.request.name, attempt });
      return result;
    } catch (error) {
      if (attempt === ATTEMPTS || signal?.aborted === true || !isTransient(error)) throw error;
      const delayMs = backoffMs(attempt - 1, FIRST_RETRY_MS, MAX_RETRY_MS);
      const fields = { repo: job.request.name, attempt, delayMs, error: messageOf(error) };
      log.warning("Could not fetch; trying again", fields);
      onProgress?.({ phase: "fetch", state: "retry" });
      await clock.sleep(delayMs, signal);
    }
  }
}

/** What is mounted. */
interface Base {
  readonly commit: Commit;
  /** mtime of what nobody has changed. */
  readonly timeSeconds: number;
}

/** In full, as far as it is known what was taken. */
function sourceRefOf({ branch }: AcquireRequest, { ref, refs }: StoreState): string {
  if (ref !== null) return ref;
  const tag = `refs/tags/${branch}`;
  return branch !== null && refs.has(byteStringOfText(tag)) ? tag : branch ?? "HEAD";
}

/** Throws Failure when the source is another commit than it must be. */
function checkSource({ remote, request }: Job, { commit }: Base): void {
  const { requiredCommitOid: required } = request;
  if (required === null || commit.commitOid === required) return;
  throw new Failure(
    "failed",
    `Cannot mount ${remote.url}: ${request.branch ?? "its HEAD"} is at commit ` +
      `${commit.commitOid}, and ${required} is required; nothing was mounted`,
  );
}

async function readBase(job: Job, state: StoreState): Promise<Base> {
  // Older than the index, which is written after this, or git reads every file again; commits may
  // be from the future.
  const latest = Math.floor(Date.now() / 1000) - 2;
  const commit = await readCommit(job.options.layout.store(job.storeId).gitDir, state.commitOid);
  return { commit, timeSeconds: Math.min(commit.commitTimeSeconds, latest) };
}

/** Asked once, while the remote is waited for. */
function ownersOf(job: Job): NonNullable<Job["owners"]> {
  if (job.owners === null) {
    job.owners = readOwners(job);
    // Awaited where it is needed.
    job.owners.catch(() => {});
  }
  return job.owners;
}

async function readOwners({ request, options, id, undo }: Job) {
  const { layout, signal } = options;
  undo.push(() => removeTree(layout.repo(id).convertDir));
  const owners = await ownersGitOf({ ...request, id }, layout);
  // The user's git directory, which is not there yet, will say nothing of its own at first.
  const nowhere = { ...owners, gitDir: layout.emptyDir };
  return { owners, config: await readConversionConfig(nowhere, signal) };
}

async function withConversion(
  job: Job,
  record: RepoRecord,
  attributes: readonly Oid[] | null,
  owners: Pick<RootOptions, "owners" | "config">,
): Promise<RepoRecord> {
  const { layout } = job.options;
  const index = { path: `${layout.repo(job.id).userGitDir}/index` };
  const root = await rootOfIndex(record, { treeOid: record.baseTreeOid, index, attributes }, {
    layout,
    ...owners,
    ...signalOf(job),
  });
  return { ...record, baseTreeId: root.treeId, baseConversion: root.conversion };
}

async function recordOf(job: Job, state: StoreState, base: Base): Promise<RepoRecord> {
  const { request, options } = job;
  const { commit } = base;
  const store = options.layout.store(job.storeId);
  const complete = request.depth === null
    ? await pathExists(store.historyFullPath)
    : !state.shallow;
  const time = new Date().toISOString();
  return {
    ...repoSettingsOf(request),
    id: job.id,
    name: request.name,
    remote: job.remote.url,
    ref: state.ref,
    sourceRef: sourceRefOf(request, state),
    madeFolders: 0,
    storeId: job.storeId,
    objectFormat: state.objectFormat,
    acquiredCommitOid: commit.commitOid,
    generation: 1,
    baseCommitOid: commit.commitOid,
    baseTreeOid: commit.treeOid,
    baseTreeId: commit.treeOid,
    baseConversion: "none",
    baseTimeSeconds: base.timeSeconds,
    wanted: "mounted",
    history: complete ? "full" : request.depth === null ? "fetching" : "shallow",
    acquiredAt: time,
    lastFetchAt: time,
    fetchResult: "ok",
  };
}

interface MadeRepo {
  readonly gitDir: NewUserGitDir;
  /** The attributes files of the tree; null: not known. */
  readonly attributes: readonly Oid[] | null;
}

async function makeRepo(
  job: Job,
  state: StoreState,
  base: Promise<Base>,
): Promise<MadeRepo> {
  const { layout } = job.options;
  const { uid, gid, singleBranch } = job.request;
  const sourceRef = sourceRefOf(job.request, state);
  const store = layout.store(job.storeId);
  const repo = layout.repo(job.id);
  job.undo.push(() => removeTree(repo.dir), () => removeTree(repo.userGitDir));
  const mountPoint = await realMountPoint(job.request.mountPoint);
  const fresh = await freshGitDirOf(job.request, layout);
  const excluded = fresh?.files["info/exclude"] ?? null;
  const shallow = await readTextIfExists(`${store.gitDir}/shallow`) ?? "";
  await makeFolder(repo.dir, 0o700);
  const gitDir: NewUserGitDir = {
    gitDir: repo.userGitDir,
    workTree: layout.emptyDir,
    owner: ownerOf(job.request),
    repoId: job.id,
    mountPoint,
    stat: async () => baseStat({ timeSeconds: (await base).timeSeconds, uid, gid }),
    inos: BASE_INOS,
    storeGitDir: store.gitDir,
    mirror: refsFor({ singleBranch, sourceRef }, state.refs),
    remoteUrl: job.remote.url,
    credentials: job.login?.source ?? null,
    ref: state.ref,
    commitOid: state.commitOid,
    objectFormat: state.objectFormat,
    partial: state.partial,
    remoteHead: state.remoteHead,
    shallow,
    fetchRefspec: singleBranch ? singleRefspec(sourceRef) : ALL_BRANCHES,
    ...(excluded === null ? {} : { excluded }),
    ...signalOf(job),
  };
  const [, , attributes] = await allToTheirEnds([
    createView(repo.viewDir, {
      objectFormat: state.objectFormat,
      // Not the user's own objects: their directory may name others as its alternates. What is
      // needed of them is imported.
      objectDirs: [`${store.gitDir}/objects`],
    }),
    writeFileAtomically(repo.shallowPath, shallow, 0o600),
    createUserGitDir(gitDir),
  ]);
  return { gitDir, attributes };
}

/** Where the user wants it; last of all, so that it is complete. */
async function place({ id, request, options, undo }: Job, made: NewUserGitDir): Promise<void> {
  const { layout, signal } = options;
  if (request.gitDir === null) return;
  signal?.throwIfAborted();
  undo.push(() => takeAwayGitDir(id, layout));
  await placeGitDir(id, request, layout, { head: made, config: userConfig(made) });
}
