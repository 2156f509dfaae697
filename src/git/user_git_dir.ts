/**
 * The user's git directory: what the gitfile at the root of a mount names. It belongs to the
 * mount's owner, and its objects are the store's by alternates.
 *
 * Invariants
 *  1. It has no secret: the configuration names the credentials file.
 *  2. Until `createUserGitDir` has given it away it is ours; from then on it is hostile input, and
 *     everything that reads or writes there runs with the owner's uid and gid.
 *  3. No process of ours there sees the work tree: core.worktree is never set (the gitfile's
 *     folder is the work tree for the user's git), and GIT_WORK_TREE is an empty folder for ours.
 *  4. One that exists is left alone.
 *  5. Its index has FSMN and UNTR, and core.fsmonitor asks the mount what has changed since. A git
 *     of ours, for which process.ts turns the monitor off, loses FSMN if it writes this index.
 *
 * Write order: everything below a temporary name, ownership, then the rename.
 */

import { firstToken, syntheticDirName } from "../monitor_names.ts";
import { bytesOf, byteString, byteStringOfText, type HostPath } from "../path.ts";
import { type ConfigEntry, configText } from "./config_file.ts";
import { credentialEntries, type CredentialSource } from "./credentials.ts";
import {
  giveTree,
  makeFolder,
  pathExists,
  readIfExists,
  removeTree,
  writeFileAtomically,
} from "./files.ts";
import { firstIndex, type Inos } from "./first_index.ts";
import { fsmonitorHook } from "./fsmonitor.ts";
import { IndexError } from "./index_bytes.ts";
import type { FileStat } from "./index_file.ts";
import { isOid, type ObjectFormat, type Oid } from "./oid.ts";
import { GitError, gitText, type Owner, runGit, type RunOptions } from "./process.ts";
import {
  packedRefsText,
  planRefs,
  readRefs,
  type Refs,
  trackingRefs,
  updateRefInput,
} from "./refs.ts";
import { PROMISOR_ENTRIES } from "./store.ts";
import { editShallow } from "./user_shallow.ts";
import { alternatesText } from "./view.ts";

/** How our commands run in a user's git directory. */
export interface UserGitDir {
  readonly gitDir: string;
  /** An empty folder. */
  readonly workTree: string;
  /** Null: the daemon's own user. */
  readonly owner: Owner | null;
  /** It lies where its owner wanted it: no thread of this process may look there. */
  readonly isElsewhere?: boolean;
}

export interface NewUserGitDir extends UserGitDir {
  /** 16 hex digits: names the file monitor. */
  readonly repoId: string;
  /** Where the user's work tree will be: absolute, without symbolic links. */
  readonly mountPoint: HostPath;
  /** What lstat(2) will say there of any entry; waited for when the index is to be written. */
  readonly stat: () => Promise<FileStat>;
  readonly inos: Inos;
  readonly storeGitDir: string;
  /** The store's branches and tags. */
  readonly mirror: Refs;
  readonly remoteUrl: string;
  readonly credentials: CredentialSource | null;
  readonly ref: string | null;
  readonly commitOid: Oid;
  readonly objectFormat: ObjectFormat;
  readonly partial: boolean;
  /** The branch the remote's HEAD names; null: not known. */
  readonly remoteHead: string | null;
  /** Content of the store's `shallow` file; "": whole history. */
  readonly shallow: string;
  /** What `git fetch` there brings; null: the remote's HEAD. */
  readonly fetchRefspec: string | null;
  /** Content that `info/exclude` has already. */
  readonly excluded?: Uint8Array;
  readonly signal?: AbortSignal;
}

export interface Head {
  /** `refs/heads/main`; null: detached. */
  readonly ref: string | null;
  /** Null: the branch has no commit. */
  readonly commitOid: Oid | null;
}

/** A command of a hostile repository may not hang us. */
export const TIMEOUT_MS = 30_000;
/** So many new loose refs are packed. */
const PACK_REFS_FROM = 100;
const PUBLISH_TRIES = 3;

/**
 * Makes the directory, unless it exists. Returns the attributes files of its index; null: there is
 * none, or they are not known. Throws GitError, Deno.errors, the signal's reason.
 */
export async function createUserGitDir(options: NewUserGitDir): Promise<readonly Oid[] | null> {
  if (await pathExists(options.gitDir)) return null;
  const temporary = `${options.gitDir}.new`;
  await removeTree(temporary);
  try {
    await writeSkeleton(temporary, options);
    const run = probeOptions({ ...options, gitDir: temporary, owner: null }, options.signal);
    const [attributes] = await Promise.all([
      writeIndex(temporary, options, run),
      // HEAD is a branch without commits until here, so this writes branch and reflogs as a clone.
      runGit(["update-ref", "-m", `clone: from ${options.remoteUrl}`, "--stdin"], {
        ...run,
        stdin: new TextEncoder().encode(`update HEAD ${options.commitOid}\n`),
      }),
      writePackedRefs(temporary, options),
    ]);
    if (options.owner !== null) await giveTree(temporary, options.owner);
    await Deno.rename(temporary, options.gitDir);
    return attributes;
  } catch (error) {
    await removeTree(temporary);
    throw error;
  }
}

/** Whatever the configuration of this process's user says, the index is whole and in one file. */
const INDEX_CONFIG = ["core.splitIndex=false", "core.sparseCheckout=false"];

/**
 * Git's own index, made over by firstIndex while nobody but us can write here. A tree with names
 * that git refuses (`.git`, `..`) leaves no index, as in a clone of it: the mount hides them and
 * shows the rest.
 */
async function writeIndex(
  gitDir: string,
  options: NewUserGitDir,
  run: RunOptions,
): Promise<readonly Oid[] | null> {
  try {
    await runGit(["read-tree", options.commitOid], { ...run, config: INDEX_CONFIG });
  } catch (error) {
    if (!(error instanceof GitError) || !/invalid path/.test(error.stderr)) throw error;
  }
  const written = await readIfExists(`${gitDir}/index`);
  if (written === null) return null;
  const stat = await options.stat();
  const attributes: Oid[] = [];
  try {
    const made = firstIndex(written, {
      format: options.objectFormat,
      token: firstToken(options.repoId),
      workTree: options.mountPoint,
      exclude: excludeText(options),
      stat,
      inos: options.inos,
      onAttributes: (oid) => attributes.push(oid),
    });
    await writeFileAtomically(`${gitDir}/index`, made, 0o644);
    return attributes;
  } catch (error) {
    // A newer git's, with more in it than is known here: it is right as it is, and slower.
    if (!(error instanceof IndexError)) throw error;
    return null;
  }
}

/** The synthetic directory can be looked up, so `git add` would take it. */
function excludeText({ repoId, excluded = new Uint8Array() }: NewUserGitDir): Uint8Array {
  const known = byteString(excluded);
  const end = known === "" || known.endsWith("\n") ? "" : "\n";
  return bytesOf(`${known}${end}/${syntheticDirName(repoId)}/\n`);
}

async function writeSkeleton(gitDir: string, options: NewUserGitDir): Promise<void> {
  await makeFolder(gitDir, 0o700);
  for (const folder of ["objects", "objects/info", "objects/pack", "refs", "info", "hooks"]) {
    await makeFolder(`${gitDir}/${folder}`, 0o755);
  }
  const alternates = alternatesText([`${options.storeGitDir}/objects`]);
  const head = options.ref === null ? options.commitOid : `ref: ${options.ref}`;
  await Promise.all([
    writeFileAtomically(`${gitDir}/objects/info/alternates`, alternates, 0o644),
    writeFileAtomically(`${gitDir}/config`, configText(userConfig(options)), 0o644),
    writeFileAtomically(`${gitDir}/info/exclude`, excludeText(options), 0o644),
    writeFileAtomically(`${gitDir}/HEAD`, `${head}\n`, 0o644),
    options.shallow === ""
      ? null
      : writeFileAtomically(`${gitDir}/shallow`, options.shallow, 0o644),
  ]);
}

/** Its configuration. */
export function userConfig(options: NewUserGitDir): ConfigEntry[] {
  const branch = options.ref?.replace(/^refs\/heads\//, "") ?? null;
  const extended = options.partial || options.objectFormat !== "sha1";
  return [
    ["core", null, "repositoryFormatVersion", extended ? "1" : "0"],
    ["core", null, "fileMode", "true"],
    ["core", null, "bare", "false"],
    ["core", null, "logAllRefUpdates", "true"],
    ["core", null, "untrackedCache", "true"],
    ["core", null, "fsmonitor", fsmonitorHook(syntheticDirName(options.repoId))],
    // Else a hook that fails is tried again as one of version 1, and leaves a token of its own.
    ["core", null, "fsmonitorHookVersion", "2"],
    ...(options.objectFormat === "sha1"
      ? []
      : [["extensions", null, "objectFormat", options.objectFormat] as const]),
    ["remote", "origin", "url", options.remoteUrl],
    ...(options.fetchRefspec === null
      ? []
      : [["remote", "origin", "fetch", options.fetchRefspec] as const]),
    ...(options.partial ? PROMISOR_ENTRIES : []),
    ...(branch === null ? [] : [
      ["branch", branch, "remote", "origin"] as const,
      ["branch", branch, "merge", `refs/heads/${branch}`] as const,
    ]),
    // A gc would not see what the mount reads, and breaks stores of promisor packs.
    ["gc", null, "auto", "0"],
    ["maintenance", null, "auto", "false"],
    ...credentialEntries(options.credentials),
  ];
}

/** For `fetchRefspec`: all branches. */
export const ALL_BRANCHES = "+refs/heads/*:refs/remotes/origin/*";

/** The same for one, as `git clone --single-branch` (clone.c, write_refspec_config). */
export function singleRefspec(sourceRef: string): string | null {
  if (sourceRef.startsWith("refs/tags/")) return `+${sourceRef}:${sourceRef}`;
  if (!sourceRef.startsWith("refs/heads/")) return null;
  return `+${sourceRef}:${sourceRef.replace("refs/heads/", "refs/remotes/origin/")}`;
}

/** Tracking refs and tags of what the store has, in one file however many there are. */
async function writePackedRefs(gitDir: string, options: NewUserGitDir): Promise<void> {
  const mirror = new Map(options.mirror);
  if (options.ref !== null) mirror.set(byteStringOfText(options.ref), options.commitOid);
  const text = packedRefsText(trackingRefs(mirror));
  await writeFileAtomically(`${gitDir}/packed-refs`, bytesOf(text), 0o644);
  const head = options.remoteHead?.replace(/^refs\/heads\//, "");
  if (head === undefined || !mirror.has(byteStringOfText(`refs/heads/${head}`))) return;
  for (const folder of ["refs/remotes", "refs/remotes/origin"]) {
    await makeFolder(`${gitDir}/${folder}`, 0o755);
  }
  const target = `ref: refs/remotes/origin/${head}\n`;
  await writeFileAtomically(`${gitDir}/refs/remotes/origin/HEAD`, target, 0o644);
}

function signalOf(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

/** How what only looks runs there: as the owner, fetching nothing, and not for ever. */
export function probeOptions(dir: UserGitDir, signal?: AbortSignal): RunOptions {
  return {
    gitDir: dir.gitDir,
    workTree: dir.workTree,
    owner: dir.owner,
    probe: true,
    timeoutMs: TIMEOUT_MS,
    ...signalOf(signal),
  };
}

/** Where HEAD is. Runs as the owner. Throws GitError when it is no repository any more. */
export async function readHead(dir: UserGitDir): Promise<Head> {
  const run = probeOptions(dir);
  const quiet = async (args: string[]) => {
    try {
      return await gitText(args, run);
    } catch (error) {
      // 1: HEAD is no symbolic ref, or names a branch without commits.
      if (error instanceof GitError && error.code === 1) return null;
      throw error;
    }
  };
  const [ref, commit] = await Promise.all([
    quiet(["symbolic-ref", "--quiet", "HEAD"]),
    quiet(["rev-parse", "--quiet", "--verify", "HEAD^{commit}"]),
  ]);
  return { ref, commitOid: commit !== null && isOid(commit) ? commit : null };
}

/**
 * Commits that only HEAD has and that only its upstream has; null without an upstream, or while
 * commits are missing. Meaningless in a shallow repository, which the caller knows. Runs as the
 * owner.
 */
export async function aheadBehind(
  dir: UserGitDir,
): Promise<{ ahead: number; behind: number } | null> {
  try {
    const args = ["rev-list", "--left-right", "--count", "HEAD...@{upstream}", "--"];
    const [ahead = "", behind = ""] = (await gitText(args, probeOptions(dir))).split("\t");
    if (!/^\d+$/.test(ahead) || !/^\d+$/.test(behind)) return null;
    return { ahead: Number(ahead), behind: Number(behind) };
  } catch (error) {
    if (error instanceof GitError) return null;
    throw error;
  }
}

/** The user's git logs in so from now on. Runs as the owner. Throws GitError. */
export async function useCredentials(dir: UserGitDir, source: CredentialSource): Promise<void> {
  const run = probeOptions(dir);
  const [[section, origin, key, reset], [, , , helper]] = credentialEntries(source) as [
    ConfigEntry,
    ConfigEntry,
  ];
  const name = `${section}.${origin}.${key}`;
  await runGit(["config", "--replace-all", name, reset], run);
  await runGit(["config", "--add", name, helper], run);
}

/** Tracking refs and tags of the user, to be compared later by publishRefs. Runs as the owner. */
export async function readTracking(dir: UserGitDir): Promise<Refs> {
  return await readRefs(probeOptions(dir), ["refs/remotes/origin", "refs/tags"]);
}

export interface Publication {
  /** The store's refs/heads and refs/tags. */
  readonly mirror: Refs;
  /** The user's, before the fetch that brought `mirror`. */
  readonly before: Refs;
  /** The branch the remote's HEAD names; null: leave refs/remotes/origin/HEAD alone. */
  readonly remoteHead: string | null;
  /** Lines of the user's `shallow` file that are ours to remove. */
  readonly shallowLines: readonly string[];
}

/**
 * Shows a finished fetch to the user's git: tracking refs, tags, and history without its end. The
 * objects must be in the store. Safe to repeat. Runs as the owner. Throws GitError. Returns how
 * many refs were changed.
 */
export async function publishRefs(dir: UserGitDir, news: Publication): Promise<number> {
  const run = probeOptions(dir);
  let changed = 0;
  for (let attempt = 1;; attempt++) {
    const changes = planRefs(news.mirror, news.before, await readTracking(dir));
    if (changes.length === 0) break;
    try {
      await updateRefs(run, changes);
      changed = changes.length;
      if (changes.length > PACK_REFS_FROM) await runGit(["pack-refs", "--all"], run);
      break;
    } catch (error) {
      // The user's git moved a ref at the same moment.
      if (!(error instanceof GitError) || attempt === PUBLISH_TRIES) throw error;
    }
  }
  await setRemoteHead(run, news);
  await editShallow(dir, { add: [], remove: news.shallowLines });
  return changed;
}

/** Deletions first and apart: within one transaction `a` and `a/b` exclude each other. */
async function updateRefs(
  run: RunOptions,
  changes: ReturnType<typeof planRefs>,
): Promise<void> {
  for (const kind of ["delete", "update"] as const) {
    const part = changes.filter((change) => change.kind === kind);
    if (part.length === 0) continue;
    // One reflog per new ref of a big remote would be thousands of files; existing ones go on.
    await runGit(["update-ref", "-m", "fetch: by afs", "-z", "--stdin"], {
      ...run,
      config: ["core.logAllRefUpdates=false"],
      stdin: bytesOf(updateRefInput(part)),
    });
  }
}

async function setRemoteHead(run: RunOptions, news: Publication): Promise<void> {
  const name = "refs/remotes/origin/HEAD";
  const { remoteHead } = news;
  if (remoteHead === null || !news.mirror.has(byteStringOfText(remoteHead))) return;
  const target = remoteHead.replace(/^refs\/heads\//, "refs/remotes/origin/");
  const { stdout } = await runGit(["for-each-ref", "--format=%(symref)", name], run);
  if (byteString(stdout).trim() !== "") return;
  await runGit(["symbolic-ref", "-m", "fetch: by afs", name, target], run);
}

/** Commits on no remote ref, by what they are reachable from. */
export interface LocalCommits {
  /** `branch main`, `tag v1`, `stash`, `HEAD`. */
  readonly where: string;
  readonly count: number;
}

/**
 * What the user's refs reach and no remote ref does. `published` are oids that the remote has.
 * Runs as the owner. Throws GitError when the refs cannot be read.
 */
export async function localCommits(
  dir: UserGitDir,
  published: Iterable<Oid>,
): Promise<LocalCommits[]> {
  const run = probeOptions(dir);
  const [refs, head] = await Promise.all([
    readRefs(run, ["refs"]),
    readHead(dir).catch(() => ({ ref: null, commitOid: null })),
  ]);
  const isRemote = (name: string) => name.startsWith("refs/remotes/");
  const tracking = [...refs].filter(([name]) => isRemote(name)).map(([, value]) => value);
  const known = new Set<string>([...published, ...tracking]);
  const starts = new Map<string, string>();
  for (const [name, value] of refs) {
    if (!isRemote(name) && !known.has(value)) starts.set(describeRef(name), value);
  }
  if (head.ref === null && head.commitOid !== null && !known.has(head.commitOid)) {
    starts.set("HEAD", head.commitOid);
  }
  const found: LocalCommits[] = [];
  // Thousands of tags that lead to nothing new are one question.
  if (await countNew(run, [...starts.values()], known) === 0) return found;
  for (const [where, start] of starts) {
    const count = where === "stash" ? await countStashes(run) : await countNew(run, [start], known);
    if (count > 0) found.push({ where, count });
  }
  return found;
}

/** Commits reachable from one of `starts` and from none of the known ones. */
async function countNew(
  run: RunOptions,
  starts: readonly string[],
  known: Set<string>,
): Promise<number> {
  const lines = [...starts, ...[...known].map((value) => `^${value}`)].join("\n");
  const text = await gitText(["rev-list", "--count", "--ignore-missing", "--stdin"], {
    ...run,
    stdin: new TextEncoder().encode(`${lines}\n`),
  });
  return Number(text);
}

/** Stashes but the newest are in the reflog only. */
async function countStashes(run: RunOptions): Promise<number> {
  const text = await gitText(["rev-list", "--walk-reflogs", "refs/stash", "--"], run);
  return text === "" ? 1 : text.split("\n").length;
}

/**
 * Files that are staged and not committed: their content may be nowhere else. Reads index and
 * trees, never a work tree. Runs as the owner. Throws GitError.
 */
export async function stagedCount(dir: UserGitDir): Promise<number> {
  const { commitOid } = await readHead(dir);
  if (commitOid === null) return 0;
  const args = ["diff-index", "--cached", "--no-renames", "--name-only", "-z", commitOid, "--"];
  const { stdout } = await runGit(args, probeOptions(dir));
  return stdout.filter((byte) => byte === 0).length;
}

function describeRef(name: string): string {
  if (name === "refs/stash") return "stash";
  return name.replace(/^refs\/heads\//, "branch ").replace(/^refs\/tags\//, "tag ");
}
