/**
 * Stores: bare partial repositories that all mounts of a remote share. Fetches land there; its refs
 * mirror the remote's.
 *
 * Invariants
 *  1. A store exists when its `git` folder does: a clone is made as `git.new`, gets its
 *     configuration, and is then renamed. What a killed process left as `git.new` is removed by the
 *     next one.
 *  2. The caller holds the store's lock during `prepareStore`, so that one process works there.
 *  3. Its configuration is written by us only, as a whole, by rename.
 *  4. It has no secret: the configuration names the credentials files (credentials.ts).
 *  5. Everything in it may be read by others (0755, 0444 or 0644) and written by us only.
 */

import type { Clock } from "../clock.ts";
import { Failure } from "../failure.ts";
import { logger } from "../log.ts";
import { byteString, byteStringOfText } from "../path.ts";
import { configText, configValues } from "./config_file.ts";
import type { CredentialSource } from "./credentials.ts";
import { gitCauseOf, gitFailure } from "./errors.ts";
import {
  makeFolder,
  pathExists,
  readIfExists,
  readTextIfExists,
  removeTree,
  writeFileAtomically,
} from "./files.ts";
import { formatOf, isOid, type ObjectFormat, type Oid, oid } from "./oid.ts";
import { GitError, gitText, runGit } from "./process.ts";
import { parsePackedRefs, readRefs, type Refs } from "./refs.ts";
import { parseRemote } from "./remote_url.ts";
import { type Login, runTransfer, type TransferOptions } from "./transfer.ts";
import { isForGit } from "./wire.ts";
import { cloneByWire } from "./wire_clone.ts";

/** What git says about a transfer, e.g. `Receiving objects`, 45. */
export interface TransferProgress {
  readonly step: string;
  /** 0 to 100; null: unknown. */
  readonly percent: number | null;
  /** The whole line. */
  readonly text: string;
}

export interface StoreRequest {
  /** Without credentials. */
  readonly remoteUrl: string;
  /** Null: those of the store, if it is there, or what git finds by itself. */
  readonly credentials: CredentialSource | null;
  /** Branch, tag, full ref or commit; null: the remote's HEAD. */
  readonly branch: string | null;
  readonly depth: number | null;
  /** With the tags that lead to its commits. */
  readonly singleBranch: boolean;
  /** Folder of the store, which exists. */
  readonly storeDir: string;
  /** `<storeDir>/git`. */
  readonly gitDir: string;
  /** Whether `--depth` may be used on an existing store: nobody fetches its history now. */
  readonly mayDeepen: boolean;
  readonly signal?: AbortSignal;
  /** Called whenever git has been started and only the remote is waited for. */
  readonly onAsked?: () => void;
  readonly onProgress?: (progress: TransferProgress) => void;
  /** Default: the real time. */
  readonly clock?: Clock | undefined;
}

/** The commit to mount and what is known about its store. */
export interface StoreState {
  /** `refs/heads/main`; null: a tag, HEAD is detached. */
  readonly ref: string | null;
  readonly commitOid: Oid;
  /** Branches and tags that the store has. */
  readonly refs: Refs;
  readonly objectFormat: ObjectFormat;
  /** False: the server knows no filters, so all blobs of what was fetched are here. */
  readonly partial: boolean;
  /** Whether commits have parents that are not here. */
  readonly shallow: boolean;
  /** The branch the remote's HEAD names (`refs/heads/main`); null: not known. */
  readonly remoteHead: string | null;
  /** Whether this call made the store. */
  readonly created: boolean;
}

/** By default small packs are unpacked; we want packs only, since `.promisor` belongs to a pack. */
export const FETCH_CONFIG = ["fetch.unpackLimit=1", "transfer.unpackLimit=1"];

/**
 * For every `git fetch` of ours in a store. A filter makes git call the remote a promisor, so a
 * store that is not partial must have none: over dumb http each missing object would start another
 * fetch that finds it missing, without end.
 */
export function fetchOptions(partial: boolean): string[] {
  return [
    "--progress",
    "--no-write-fetch-head",
    "--no-auto-maintenance",
    "--recurse-submodules=no",
    ...(partial ? ["--filter=blob:none"] : []),
  ];
}

/** Of branches alone git brings the tags that lead to what it has brought. */
export function tagOptions({ singleBranch }: { readonly singleBranch: boolean }): string[] {
  return singleBranch ? [] : ["--no-tags"];
}

/**
 * Makes the store, or fetches the newest commit of the branch into an existing one, whose
 * configuration stays as it is: the caller writes it when nothing can fail any more. Throws
 * Failure, or the signal's reason; a store that was not there before is then not there.
 */
export async function prepareStore(request: StoreRequest): Promise<StoreState> {
  const action = `mount ${request.remoteUrl}`;
  await removeTree(newGitDirOf(request));
  try {
    if (await pathExists(request.gitDir)) return await updateStore(request);
    return await createStore(request);
  } catch (error) {
    request.signal?.throwIfAborted();
    if (gitCauseOf(error) === "no-branch") throw noSuchBranch(request);
    throw gitFailure(action, error);
  }
}

/** True when the store's history is complete. */
export async function isShallow(gitDir: string): Promise<boolean> {
  return (await readTextIfExists(`${gitDir}/shallow`) ?? "") !== "";
}

/** `Receiving objects:  45% (9/20), 1.2 MiB` to its parts; null for other lines. */
export function parseProgress(line: string): TransferProgress | null {
  const match = /^(?:remote: )?([A-Z][A-Za-z ]+):\s+(?:(\d+)%|(\d+))/.exec(line);
  if (match === null) return null;
  const percent = match[2] === undefined ? null : Number(match[2]);
  return { step: match[1] as string, percent, text: line };
}

/** Passes the progress lines of git on. */
export function progressTo(
  onProgress: ((progress: TransferProgress) => void) | undefined,
): (line: string) => void {
  return (line) => {
    const progress = parseProgress(line);
    if (progress !== null) onProgress?.(progress);
  };
}

/** What the configuration of a store says. */
export interface StoreConfig {
  readonly remoteUrl: string;
  readonly objectFormat: ObjectFormat;
  readonly partial: boolean;
  /** Paths of credentials files, in the order in which they are tried. */
  readonly credentials: readonly string[];
}

export async function writeStoreConfig(gitDir: string, store: StoreConfig): Promise<void> {
  const text = configText([
    // Version 1: an older git than knows partial clones and object formats refuses it.
    ["core", null, "repositoryFormatVersion", "1"],
    ["core", null, "bare", "true"],
    ["core", null, "fileMode", "true"],
    ["core", null, "bigFileThreshold", "1m"],
    ...(store.objectFormat === "sha1"
      ? []
      : [["extensions", null, "objectFormat", store.objectFormat] as const]),
    ["remote", "origin", "url", store.remoteUrl],
    ...(store.partial ? PROMISOR_ENTRIES : []),
    ["gc", null, "auto", "0"],
    ["maintenance", null, "auto", "false"],
    ...store.credentials.map((path) => ["afs", null, "credentials", path] as const),
  ]);
  await writeFileAtomically(`${gitDir}/config`, text, 0o644);
}

/** What makes a remote one from which git fetches missing objects by itself. */
export const PROMISOR_ENTRIES = [
  ["remote", "origin", "promisor", "true"],
  ["remote", "origin", "partialCloneFilter", "blob:none"],
] as const;

/** Of a configuration that git wrote, `objectFormat` and `partial` are read too. */
export async function readStoreConfig(gitDir: string): Promise<StoreConfig> {
  const text = await readTextIfExists(`${gitDir}/config`) ?? "";
  return {
    remoteUrl: configValues(text, "url")[0] ?? "",
    objectFormat: /objectformat\s*=\s*"?sha256/i.test(text) ? "sha256" : "sha1",
    partial: /promisor\s*=\s*"?true/i.test(text),
    credentials: configValues(text, "credentials"),
  };
}

/** The order in which a store's transfers log in. */
export function loginsOf({ remoteUrl, credentials }: StoreConfig): Login[] {
  const { origin } = parseRemote(remoteUrl);
  if (origin === null) return [null];
  return [...credentials.map((path) => ({ origin, path })), null];
}

/** These credentials are the first to be tried from now on. The caller holds the store's lock. */
export async function preferCredentials(gitDir: string, path: string): Promise<void> {
  const store = await readStoreConfig(gitDir);
  if (store.credentials[0] === path) return;
  const others = store.credentials.filter((other) => other !== path);
  await writeStoreConfig(gitDir, { ...store, credentials: [path, ...others] });
}

/** These credentials are used no more. The caller holds the store's lock. */
export async function dropCredentials(gitDir: string, path: string): Promise<void> {
  const store = await readStoreConfig(gitDir);
  const credentials = store.credentials.filter((other) => other !== path);
  if (credentials.length < store.credentials.length) {
    await writeStoreConfig(gitDir, { ...store, credentials });
  }
}

function newGitDirOf(request: StoreRequest): string {
  return `${request.storeDir}/git.new`;
}

async function createStore(request: StoreRequest): Promise<StoreState> {
  const gitDir = newGitDirOf(request);
  try {
    const filtered = isClonable(request.branch)
      ? await cloneByWireIfPossible(request, gitDir) ??
        await clone(request, gitDir, { depth: request.depth ?? 1 })
      : await fetchDetached(request, request.branch as string, gitDir);
    const { ref, refs: packed, commitOid } = await readClonedTip(gitDir);
    if (commitOid === null) throw emptyOf(request);
    // Tags that came with a single branch are loose (clone.c, write_followtags).
    const refs = request.singleBranch ? await readMirror(gitDir, request) : packed;
    const { objectFormat } = await readStoreConfig(gitDir);
    const shallow = await isShallow(gitDir);
    const partial = filtered && hasPromisorPack(gitDir);
    await openStore(gitDir);
    await writeStoreConfig(gitDir, {
      remoteUrl: request.remoteUrl,
      objectFormat,
      partial,
      credentials: request.credentials === null ? [] : [request.credentials.path],
    });
    await Deno.rename(gitDir, request.gitDir);
    return {
      ref,
      commitOid,
      refs,
      objectFormat,
      partial,
      shallow,
      remoteHead: request.branch === null ? ref : null,
      created: true,
    };
  } catch (error) {
    await removeTree(gitDir);
    throw error;
  }
}

/** Two requests at an http server: refs, pack. Null: git is to do it, and nothing was made. */
async function cloneByWireIfPossible(
  request: StoreRequest,
  gitDir: string,
): Promise<true | null> {
  // Of one that stays shallow the tags come now or never.
  if (request.singleBranch && request.depth !== null) return null;
  try {
    await cloneByWire(request, gitDir);
    return true;
  } catch (error) {
    if (!isForGit(error)) throw error;
    await removeTree(gitDir);
    logger("git").info("Cloning with git", { cause: error.message });
    return null;
  }
}

/**
 * Three requests at an http server: capabilities, refs, pack. Whole history where the server cannot
 * give less. Whether the server left out what the filter says.
 */
async function clone(
  request: StoreRequest,
  gitDir: string,
  options: { readonly depth: number | null },
): Promise<boolean> {
  try {
    const { stderr } = await runTransfer([
      "clone",
      "--bare",
      "--progress",
      ...tagOptions(request),
      "--single-branch",
      "--no-recurse-submodules",
      "--template=",
      "--origin=origin",
      "--filter=blob:none",
      ...(options.depth === null ? [] : [`--depth=${options.depth}`]),
      ...(request.branch === null ? [] : [`--branch=${shortName(request.branch)}`]),
      "--",
      request.remoteUrl,
      gitDir,
    ], transferOptions(request, gitDir, [request.credentials]));
    // upload-pack without uploadpack.allowFilter, or an old server (fetch-pack.c).
    return !/filtering not recognized by server/.test(stderr);
  } catch (error) {
    if (options.depth === null || gitCauseOf(error) !== "shallow-unsupported") throw error;
    await removeTree(gitDir);
    return await clone(request, gitDir, { depth: null });
  }
}

/** Whether `git clone --branch` takes it: not a commit, nor a ref that is no branch or tag. */
function isClonable(source: string | null): boolean {
  if (source === null) return true;
  return !isOid(source) && (!source.startsWith("refs/") || /^refs\/(?:heads|tags)\//.test(source));
}

/** As `clone`, of what that does not take; HEAD is detached there. */
async function fetchDetached(
  request: StoreRequest,
  source: string,
  gitDir: string,
  objectFormat: ObjectFormat = isOid(source) ? formatOf(source) : "sha1",
): Promise<boolean> {
  const { remoteUrl, credentials, depth } = request;
  await runGit(["init", "--quiet", "--bare", "--template=", `--object-format=${objectFormat}`], {
    gitDir,
    ...signalOf(request),
  });
  await writeStoreConfig(gitDir, { remoteUrl, objectFormat, partial: true, credentials: [] });
  await makeFolder(`${gitDir}/objects/pack`, 0o755);
  const refspec = isOid(source) ? source : `+${source}:${source}`;
  const options = { ...transferOptions(request, gitDir, [credentials]), gitDir };
  const fetch = (deepen: readonly string[]) =>
    runTransfer(
      ["fetch", ...fetchOptions(true), ...tagOptions(request), ...deepen, "origin", refspec],
      options,
    );
  try {
    const { stderr } = await fetch([`--depth=${depth ?? 1}`]).catch((error) => {
      if (depth !== null || gitCauseOf(error) !== "shallow-unsupported") throw error;
      return fetch([]);
    });
    const run = { gitDir, probe: true, ...signalOf(request) };
    const commitOid = await gitText(["rev-parse", "--verify", `${source}^{commit}`], run);
    await writeFileAtomically(`${gitDir}/HEAD`, `${commitOid}\n`, 0o644);
    return !/filtering not recognized by server/.test(stderr);
  } catch (error) {
    const isOther = error instanceof GitError && /mismatched algorithms/.test(error.stderr);
    if (!isOther || objectFormat === "sha256") throw error;
    await removeTree(gitDir);
    return await fetchDetached(request, source, gitDir, "sha256");
  }
}

function transferOptions(
  request: StoreRequest,
  gitDir: string,
  logins: readonly Login[],
): TransferOptions {
  const { onAsked } = request;
  return {
    remoteUrl: request.remoteUrl,
    logins,
    packDir: `${gitDir}/objects/pack`,
    config: FETCH_CONFIG,
    ...signalOf(request),
    ...(onAsked === undefined ? {} : { onStarted: onAsked }),
    onStderr: progressTo(request.onProgress),
    clock: request.clock,
  };
}

function signalOf({ signal }: StoreRequest): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

/** `refs/heads/x` to `x`: `git clone --branch` takes short names. */
function shortName(branch: string): string {
  return branch.replace(/^refs\/(?:heads|tags)\//, "");
}

/**
 * What `git clone` says of a store that nobody else knows yet, from its files: HEAD, and the refs,
 * which a clone writes packed. Null commit: the branch of HEAD has none; null ref: HEAD is
 * detached, at a commit.
 */
async function readClonedTip(
  gitDir: string,
): Promise<{ ref: string | null; refs: Refs; commitOid: Oid | null }> {
  const [head, packed] = await Promise.all([
    readTextIfExists(`${gitDir}/HEAD`),
    readIfExists(`${gitDir}/packed-refs`),
  ]);
  const refs = parsePackedRefs(byteString(packed ?? new Uint8Array()));
  const text = (head ?? "").trim();
  if (!text.startsWith("ref: ")) return { ref: null, refs, commitOid: oid(text) };
  const ref = text.slice(5);
  return { ref, refs, commitOid: refs.get(byteStringOfText(ref)) ?? null };
}

async function readMirror(gitDir: string, request: StoreRequest): Promise<Refs> {
  return await readRefs({ gitDir, ...signalOf(request) }, ["refs/heads", "refs/tags"]);
}

function emptyOf(request: StoreRequest): Failure {
  return new Failure(
    "failed",
    `Cannot mount ${request.remoteUrl}: it is empty, or its HEAD names no branch; push a commit, or name a branch`,
  );
}

function noSuchBranch(request: StoreRequest): Failure {
  const branch = request.branch ?? "HEAD";
  if (isOid(branch)) {
    return new Failure(
      "failed",
      `Cannot mount ${request.remoteUrl}: it does not have, or does not give, the commit ${branch}`,
    );
  }
  return new Failure(
    "failed",
    `Cannot mount ${request.remoteUrl}: it has no branch or tag "${branch}"; see \`git ls-remote ${request.remoteUrl}\``,
  );
}

export interface Commit {
  readonly commitOid: Oid;
  readonly treeOid: Oid;
  readonly commitTimeSeconds: number;
}

/** The commit of an oid, with tags peeled. Throws GitError when there is no such commit here. */
export async function readCommit(gitDir: string, at: Oid): Promise<Commit> {
  const text = await gitText(
    ["rev-list", "--max-count=1", "--no-commit-header", "--format=%H %T %ct", at, "--"],
    { gitDir, probe: true },
  );
  const [commit = "", tree = "", time = ""] = text.split(" ");
  // A commit may carry any text as its time.
  const seconds = /^\d{1,15}$/.test(time) ? Number(time) : 0;
  return { commitOid: oid(commit), treeOid: oid(tree), commitTimeSeconds: seconds };
}

/** index-pack makes `.promisor` files 0600; the mounts' owners read the folder. */
async function openStore(gitDir: string): Promise<void> {
  Deno.chmodSync(gitDir, 0o755);
  await makeFolder(`${gitDir}/objects/info`, 0o755);
  openPacks(`${gitDir}/objects/pack`);
}

/** Whether what was fetched is marked as incomplete: not over dumb http. */
function hasPromisorPack(gitDir: string): boolean {
  for (const entry of Deno.readDirSync(`${gitDir}/objects/pack`)) {
    if (entry.name.endsWith(".promisor")) return true;
  }
  return false;
}

/** Makes every file of a pack folder readable by all and writable by none. */
export function openPacks(packDir: string): void {
  for (const entry of Deno.readDirSync(packDir)) {
    if (!entry.isFile || entry.name.startsWith("tmp_")) continue;
    try {
      Deno.chmodSync(`${packDir}/${entry.name}`, 0o444);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

interface RemoteTip {
  /** `refs/heads/x` or `refs/tags/x`; null: HEAD is detached. */
  readonly fullRef: string | null;
  readonly oid: Oid;
  readonly remoteHead: string | null;
}

async function updateStore(request: StoreRequest): Promise<StoreState> {
  const { gitDir } = request;
  const known = await readStoreConfig(gitDir);
  const logins = request.credentials === null ? loginsOf(known) : [request.credentials];
  const transfer = { ...transferOptions(request, gitDir, logins), gitDir };
  const tip = await askTip(request, transfer);
  // The commit may be here already: another mount of an unchanged remote then needs no transfer.
  let commit = await readCommit(gitDir, tip.oid).catch(() => null);
  if (commit === null || request.depth !== null) {
    await fetchTip(request, tip, transfer, known.partial);
    openPacks(`${gitDir}/objects/pack`);
    commit = await readCommit(gitDir, tip.oid).catch(() => null);
    if (commit === null) throw noSuchBranch(request);
  }
  return {
    commitOid: commit.commitOid,
    refs: await readMirror(gitDir, request),
    ref: tip.fullRef?.startsWith("refs/heads/") === true ? tip.fullRef : null,
    objectFormat: known.objectFormat,
    partial: known.partial,
    shallow: await isShallow(gitDir),
    remoteHead: tip.remoteHead,
    created: false,
  };
}

/** What the remote has now: two requests at an http server. */
async function askTip(request: StoreRequest, transfer: TransferOptions): Promise<RemoteTip> {
  const { branch } = request;
  if (branch !== null && isOid(branch)) return { fullRef: null, oid: branch, remoteHead: null };
  const wanted = branch === null ? [] : candidates(branch);
  const args = ["ls-remote", "--symref", "origin", "HEAD", ...wanted];
  const { stdout } = await runTransfer(args, transfer);
  const { refs, remoteHead } = parseRemoteRefs(new TextDecoder().decode(stdout));
  const fullRef = branch === null ? remoteHead : wanted.find((ref) => refs.has(ref)) ?? null;
  const found = refs.get(branch === null ? "HEAD" : fullRef ?? "");
  if (found === undefined) throw branch === null ? emptyOf(request) : noSuchBranch(request);
  return { fullRef, oid: found, remoteHead };
}

/** In the order of `git clone --branch`. */
function candidates(branch: string): string[] {
  if (branch.startsWith("refs/")) return [branch];
  return [`refs/heads/${branch}`, `refs/tags/${branch}`];
}

/** Output of `git ls-remote --symref`. */
export function parseRemoteRefs(
  text: string,
): { refs: Map<string, Oid>; remoteHead: string | null } {
  const refs = new Map<string, Oid>();
  let remoteHead: string | null = null;
  for (const line of text.split("\n")) {
    const [left = "", name = ""] = line.split("\t");
    if (left.startsWith("ref: ") && name === "HEAD") remoteHead = left.slice(5);
    else if (isOid(left)) refs.set(name, left);
  }
  return { refs, remoteHead };
}

/**
 * With `--depth` when the store is shallow; without it git would make a whole store shallow. While
 * another process brings the history in, `--depth` would wait for its shallow.lock: a plain fetch
 * does not, but brings the branch's history with it.
 */
async function fetchTip(
  request: StoreRequest,
  tip: RemoteTip,
  transfer: TransferOptions,
  partial: boolean,
): Promise<void> {
  const shallow = await isShallow(request.gitDir);
  const depth = shallow && request.mayDeepen ? [`--depth=${request.depth ?? 1}`] : [];
  const { branch } = request;
  const source = tip.fullRef ?? (branch !== null && isOid(branch) ? branch : "HEAD");
  const fetch = async (refspec: string) => {
    const tags = tagOptions(request);
    const args = ["fetch", ...fetchOptions(partial), ...tags, ...depth, "origin", refspec];
    await runTransfer(args, transfer);
  };
  try {
    await fetch(tip.fullRef === null ? source : `+${source}:${source}`);
  } catch (error) {
    if (gitCauseOf(error) !== "lock") throw error;
    // A branch `a` that became `a/b`: the objects are what matters, refs are the history's affair.
    await fetch(source);
  }
}
