/** What `mount` and `add-repo` take about what they acquire, checked before anything is started. */

import { type Command, InvalidArgumentError, Option } from "commander";
import { checkMountRights } from "../daemon/preflight.ts";
import { Failure } from "../failure.ts";
import { parseRemote, remoteWithoutCredentials, urlWithCredentials } from "../git/remote_url.ts";
import { readTokenFrom } from "../git/token_file.ts";
import { registerSecretsOf } from "../redact.ts";
import type { Oid } from "../git/oid.ts";
import { checkBranch, checkDepth, checkName, checkRequiredCommit } from "../repo/checks.ts";
import { absolutePath, hostPath, remoteForDaemon } from "./host_paths.ts";
import {
  addJsonOption,
  addOwnerOptions,
  type Interval,
  interval,
  type JsonOption,
  ownerFrom,
  type OwnerOptions,
  wholeNumber,
} from "./options.ts";

export interface AcquireOptions extends OwnerOptions, JsonOption {
  readonly name?: string;
  readonly branch?: string;
  readonly ref?: string;
  readonly requireCommit?: string;
  readonly refresh?: Interval;
  readonly tokenFile?: string;
  readonly depth?: number;
  readonly xattr?: true;
  readonly umask?: number;
  readonly readOnly?: true;
  readonly gitDir?: string;
  readonly preparedGitdir?: boolean;
  readonly fetchRef?: string;
  readonly singleBranch?: true;
}

export function addAcquireOptions(command: Command): Command {
  command
    .option("--ref <ref>", "branch, tag, full ref or commit (default: the remote's HEAD)")
    .addOption(new Option("--branch <branch>", "the same as --ref").conflicts("ref"))
    .option("--require-commit <oid>", "mount nothing but this commit, and keep the base there")
    .option("--depth <n>", "keep the history this shallow", wholeNumber(1))
    .option(
      "--refresh <interval>",
      "how often the remote is asked: 30s, 5m, ... or never",
      interval,
    )
    .option(
      "--token-file <path>",
      "file with the token, or user:token, read at each login; -: standard input, read once",
    )
    .option("--read-only", "nothing can be changed through the mount")
    .option("--umask <mask>", "permissions that files do not have, e.g. 002 (default: 022)", umask)
    .option("--single-branch", "follow this branch only, and the tags that lead to its commits")
    .option("--git-dir <dir>", "where the git directory is to lie (default: in the state root)")
    .option("--prepared-gitdir", "--git-dir is there, made by git init, and has a remote")
    .option("--fetch-ref <ref>", "the same as --ref")
    .option("--xattr", "keep extended attributes; each write is dearer with them");
  return addJsonOption(addOwnerOptions(command));
}

export interface AcquireParams<R extends string | null> {
  /** As the daemon can use it; may hold credentials. */
  readonly remote: R;
  readonly branch: string | null;
  readonly depth: number | null;
  readonly requiredCommit: Oid | null;
  /** Null: never; absent: it was not said. */
  readonly refreshSeconds?: number | null;
  readonly uid: number;
  readonly gid: number;
  readonly xattrs: boolean;
  /** Absolute; null: none. */
  readonly tokenFile: string | null;
  /** Absent: it was not said. */
  readonly umask?: number;
  readonly readOnly: boolean;
  readonly gitDir: string | null;
  readonly preparedGitDir: boolean;
  readonly singleBranch: boolean;
}

/** Octal; the owner keeps all: git reads the executable bit from it. */
function umask(text: string): number {
  if (/^0*[0-7]{1,2}$/.test(text)) return Number.parseInt(text, 8);
  throw new InvalidArgumentError("Give octal digits for group and others, from 000 to 077.");
}

/**
 * All that can be known to be wrong before a daemon is started for it. Null: a prepared git
 * directory says what the remote is. Throws Failure.
 */
export function acquireParams<R extends string | null>(
  url: R,
  options: AcquireOptions,
): AcquireParams<R> {
  if (url !== null) registerSecretsOf(url);
  const remote = url === null ? url : remoteForDaemon(url);
  const shown = remote === null ? undefined : remoteWithoutCredentials(remote);
  const { name, depth } = options;
  const branch = sourceFrom(options);
  if (name !== undefined) checkName(name);
  if (branch !== null) checkBranch(branch);
  if (depth !== undefined) checkDepth(depth);
  const requiredCommit = options.requireCommit?.toLowerCase() ?? null;
  if (requiredCommit !== null) checkRequiredCommit(requiredCommit);
  const owner = ownerFrom(options);
  checkMountRights(shown);
  const { tokenFile } = options;
  return {
    remote: (tokenFile === "-" ? withTokenFromInput(remote) : remote) as R,
    tokenFile: tokenFile === undefined || tokenFile === "-" ? null : absolutePath(tokenFile),
    branch,
    depth: depth ?? null,
    requiredCommit: requiredCommit as Oid | null,
    ...(options.refresh === undefined ? {} : { refreshSeconds: options.refresh.seconds }),
    ...owner,
    xattrs: options.xattr ?? false,
    ...(options.umask === undefined ? {} : { umask: options.umask }),
    readOnly: options.readOnly ?? false,
    ...gitDirFrom(options),
    singleBranch: options.singleBranch ?? false,
  };
}

/** Two names of the same thing. Throws Failure (usage). */
function sourceFrom({ branch, ref = branch, fetchRef }: AcquireOptions): string | null {
  if (ref === undefined || fetchRef === undefined) return ref ?? fetchRef ?? null;
  const short = (name: string) => name.replace(/^refs\/heads\//, "");
  if (short(ref) === short(fetchRef)) return ref;
  throw new Failure("usage", `Cannot mount both ${ref} and ${fetchRef}: give --ref or --fetch-ref`);
}

/** Throws Failure (usage). */
function gitDirFrom({ gitDir, preparedGitdir = false, requireCommit }: AcquireOptions) {
  if (preparedGitdir && gitDir === undefined) {
    throw new Failure("usage", "Cannot use --prepared-gitdir alone: give its path with --git-dir");
  }
  if (preparedGitdir && requireCommit !== undefined) {
    throw new Failure("usage", "Cannot use --prepared-gitdir and --require-commit together");
  }
  return {
    gitDir: gitDir === undefined ? null : hostPath(gitDir),
    preparedGitDir: preparedGitdir,
  };
}

/** A token that is not to be in a file is given to the daemon as one in the URL would be. */
function withTokenFromInput(url: string | null): string {
  if (url === null) {
    throw new Failure(
      "usage",
      "Cannot use a token for a prepared git directory: give --token-file a path",
    );
  }
  const remote = parseRemote(url);
  const refuse = (why: string) => {
    return new Failure("usage", `Cannot use a token for ${remote.url}: ${why}`);
  };
  if (remote.credentials !== null) throw refuse("its URL has a login too; give one of them");
  if (remote.origin === null) throw refuse("only http and https take one");
  const given = urlWithCredentials(remote.url, readTokenFrom(Deno.stdin));
  registerSecretsOf(given);
  return given;
}
