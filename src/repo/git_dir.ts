/**
 * The user's git directory at a place of the user's choice (`--git-dir`), new or prepared by them
 * (`--prepared-gitdir`). Checks, and what is written down about it.
 *
 * It is made below the state root and given to its owner, as any other; then processes of the owner
 * take it to its place (src/git/placed_git_dir.ts). The daemon itself writes nothing there.
 *
 *     state                       event            next
 *     (nothing)                   placeGitDir      written down: `git-dir.json`
 *     written down                done             placed
 *     written down, or placed     takeAwayGitDir   (nothing): the place is as it was before
 *
 * Invariant: where something of ours may be, there is `git-dir.json`, which says what was there
 * before; so removeOrphans finds what a killed acquisition has left.
 */

import { Failure, messageOf } from "../failure.ts";
import type { ConfigEntry } from "../git/config_file.ts";
import { readTextIfExists, removeIfExists, removeTree, writeFileAtomically } from "../git/files.ts";
import type { Oid } from "../git/oid.ts";
import {
  fillFresh,
  type FreshFiles,
  type FreshGitDir,
  inspectPlace,
  isGitfileOf,
  type Place,
  placeCopy,
  readFresh,
  removeCopy,
  restoreFresh,
  UnusableGitDir,
} from "../git/placed_git_dir.ts";
import { parseRemote, remoteWithoutCredentials } from "../git/remote_url.ts";
import type { UserGitDir } from "../git/user_git_dir.ts";
import { logger } from "../log.ts";
import type { HostPath } from "../path.ts";
import { registerSecretsOf } from "../redact.ts";
import type { AcquireRequest } from "./acquire.ts";
import type { Layout } from "./layout.ts";
import { type GitDirRecord, ownerOf, userGitDirOf } from "./owner.ts";
import type { RepoRecord } from "./types.ts";

type Wanted = Pick<AcquireRequest, "gitDir" | "preparedGitDir" | "uid" | "gid" | "mountPoint">;

export interface GitDirChecks {
  readonly layout: Layout;
  /** What is registered, or is to be. */
  readonly records: readonly Pick<RepoRecord, "id" | "name" | "mountPoint" | "gitDir">[];
  /** Of those, the one that it is for. */
  readonly own?: string;
}

function unusable(path: string, why: string): Failure {
  return new Failure("usage", `Cannot use the git directory ${path}: ${why}`);
}

/**
 * `--git-dir` as it is kept: absolute, without symbolic links; null: below the state root. Throws
 * Failure (usage).
 */
export async function checkGitDir(wanted: Wanted, checks: GitDirChecks): Promise<HostPath | null> {
  const { gitDir, preparedGitDir } = wanted;
  if (gitDir === null) {
    if (!preparedGitDir) return null;
    throw new Failure("usage", "Cannot use a prepared git directory: give it with --git-dir");
  }
  // deno-lint-ignore no-control-regex -- a gitfile and one-line messages cannot hold them
  if (/[\x00-\x1f\x7f]/.test(gitDir)) {
    throw unusable(JSON.stringify(gitDir), "it has a control character");
  }
  // Before it is touched, and again as it really is.
  refusePlaces(gitDir, wanted, checks);
  const dir = dirAt(gitDir, wanted, checks.layout);
  const look: () => Promise<{ readonly path: string }> = () =>
    preparedGitDir ? readFresh(dir) : inspectPlace(dir);
  const { path } = await explained(gitDir, look);
  refusePlaces(path, wanted, checks);
  return path as HostPath;
}

function refusePlaces(path: string, { mountPoint }: Wanted, checks: GitDirChecks): void {
  const { layout: { stateRoot }, records, own } = checks;
  if (path === "/" || path.split("/").some((part) => part === "." || part === "..")) {
    throw unusable(path, "give its absolute path");
  }
  if (overlap(path, stateRoot)) throw unusable(path, `the state root is ${stateRoot}`);
  if (overlap(path, mountPoint)) throw unusable(path, `${mountPoint} is to be a mount`);
  for (const record of records) {
    if (record.id === own) continue;
    for (const taken of [record.mountPoint, record.gitDir]) {
      if (taken === null || !overlap(path, taken)) continue;
      throw unusable(path, `${taken} is of "${record.name}"; choose another`);
    }
  }
}

/** One is the other, or lies in it. */
function overlap(a: string, b: string): boolean {
  return `${a}/`.startsWith(`${b}/`) || `${b}/`.startsWith(`${a}/`);
}

function dirAt(
  gitDir: string,
  { uid, gid }: Pick<RepoRecord, "uid" | "gid">,
  layout: Layout,
): UserGitDir {
  return userGitDirOf({ id: "", uid, gid, gitDir: gitDir as HostPath }, layout);
}

async function explained<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Failure) throw error;
    if (error instanceof UnusableGitDir) throw unusable(path, error.message);
    throw new Failure("failed", `Cannot use the git directory ${path}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/**
 * The remote of a prepared git directory, without credentials; `said`: what the user calls it, if
 * they do. Throws Failure.
 */
export async function remoteOfPrepared(
  wanted: Pick<Wanted, "gitDir" | "uid" | "gid">,
  said: string | null,
  layout: Layout,
): Promise<string> {
  const { gitDir } = wanted;
  if (gitDir === null) {
    throw new Failure("usage", "Cannot use a prepared git directory: give it with --git-dir");
  }
  const { remoteUrl } = await explained(gitDir, () => readFresh(dirAt(gitDir, wanted, layout)));
  registerSecretsOf(remoteUrl);
  const { url, credentials } = parseRemote(remoteUrl);
  if (credentials !== null) {
    throw unusable(gitDir, `the URL of its remote ${url} has a login; use a git credential helper`);
  }
  if (said !== null && plain(remoteWithoutCredentials(said)) !== plain(url)) {
    throw unusable(gitDir, `its remote is ${url}`);
  }
  return url;
}

function plain(url: string): string {
  return url.replace(/\/+$/, "");
}

/** Whether a file is one that leads to the git directory, where the user has put it. */
export function isOwnGitfile(
  record: GitDirRecord,
  layout: Layout,
): (path: string) => Promise<boolean> {
  return async (path) =>
    record.gitDir !== null && await isGitfileOf(userGitDirOf(record, layout), path);
}

/** What is written down. Bytes in base64. */
interface Placed {
  readonly gitDir: HostPath;
  readonly uid: number;
  readonly gid: number;
  /** What was there before. */
  readonly was: Place["state"] | "fresh";
  readonly before?: { readonly names: readonly string[]; readonly files: Files };
  /** As it was left; absent: not all of it was done. */
  readonly since?: Files;
}

type Files = { readonly [K in keyof FreshFiles]: string | null };

/** The git directory that is to be prepared; null: none is. Throws Failure. */
export async function freshGitDirOf(
  request: AcquireRequest,
  layout: Layout,
): Promise<FreshGitDir | null> {
  const { gitDir, preparedGitDir } = request;
  if (gitDir === null || !preparedGitDir) return null;
  return await explained(gitDir, () => readFresh(dirAt(gitDir, request, layout)));
}

export interface NewGitDir {
  readonly head: { readonly ref: string | null; readonly commitOid: Oid };
  readonly config: readonly ConfigEntry[];
}

/**
 * Takes the repository's new git directory to where it is to lie. On failure takeAwayGitDir is to
 * follow. Throws Failure.
 */
export async function placeGitDir(
  id: string,
  request: AcquireRequest,
  layout: Layout,
  made: NewGitDir,
): Promise<void> {
  const { gitDir, uid, gid } = request;
  if (gitDir === null) return;
  const from = layout.repo(id).userGitDir;
  const dir = dirAt(gitDir, request, layout);
  const fresh = await freshGitDirOf(request, layout);
  const base = { gitDir, uid, gid };
  await explained(gitDir, async () => {
    if (fresh === null) {
      const { state } = await inspectPlace(dir);
      await write(id, layout, { ...base, was: state });
      await placeCopy(dir, from, id, state);
    } else {
      const before = { names: fresh.names, files: encoded(fresh.files) };
      await write(id, layout, { ...base, was: "fresh", before });
      const replaces = (key: string) => replacesSetting(key, request);
      const since = await fillFresh(dir, { ...made, from, repoId: id, replaces });
      await write(id, layout, { ...base, was: "fresh", before, since: encoded(since) });
    }
  });
  await removeTree(from);
}

/** Where it fetches from, and what, is the user's to say. */
function replacesSetting(key: string, { singleBranch }: AcquireRequest): boolean {
  if (key === "remote.origin.fetch") return singleBranch;
  return key !== "remote.origin.url" && !key.startsWith("branch.");
}

async function write(id: string, layout: Layout, placed: Placed): Promise<void> {
  await writeFileAtomically(layout.repo(id).placedPath, JSON.stringify(placed), 0o600);
}

/**
 * Makes the place what it was before, if the repository's git directory lies elsewhere. Safe to
 * repeat. Never throws: what cannot be taken away is the owner's, who is told by the log.
 */
export async function takeAwayGitDir(id: string, layout: Layout): Promise<void> {
  const { placedPath } = layout.repo(id);
  const text = await readTextIfExists(placedPath);
  if (text === null) return;
  const { gitDir, uid, gid, was, before, since } = JSON.parse(text) as Placed;
  try {
    const dir: UserGitDir = { gitDir, workTree: layout.emptyDir, owner: ownerOf({ uid, gid }) };
    if (was !== "fresh") await removeCopy(dir, id, was);
    else if (before !== undefined) {
      const files = decoded(before.files);
      await restoreFresh(
        dir,
        id,
        { ...before, files },
        since === undefined ? null : decoded(since),
      );
    }
  } catch (error) {
    const fields = { gitDir, error: messageOf(error) };
    logger("repo").warning("Could not take the git directory away", fields);
  }
  await removeIfExists(placedPath);
}

function encoded(files: FreshFiles): Files {
  const text = (bytes: Uint8Array | null) => bytes === null ? null : bytes.toBase64();
  return {
    config: text(files.config),
    HEAD: text(files.HEAD),
    "info/exclude": text(files["info/exclude"]),
  };
}

function decoded(files: Files): FreshFiles {
  const bytes = (text: string | null) => text === null ? null : Uint8Array.fromBase64(text);
  return {
    config: bytes(files.config) ?? new Uint8Array(),
    HEAD: bytes(files.HEAD) ?? new Uint8Array(),
    "info/exclude": bytes(files["info/exclude"]),
  };
}
