/** What the parameters of `mount` and `add-repo` mean. */

import type { Params } from "../control/api.ts";
import { Failure } from "../failure.ts";
import type { HostPath } from "../path.ts";
import {
  DEFAULT_REFRESH_SECONDS,
  DEFAULT_UMASK,
  type RepoRecord,
  type RepoSettings,
} from "../repo/types.ts";

/** In the order of their names. */
export function byName<T extends { readonly repo: string }>(repos: T[]): T[] {
  return repos.sort((a, b) => a.repo < b.repo ? -1 : 1);
}

/** What both verbs say of what is to be acquired. */
export function sourceOf(
  params: Params<"mount"> | Params<"add-repo">,
): Omit<RepoSettings, "mountPoint"> {
  const { branch, depth, requiredCommit, tokenFile, uid, gid, xattrs, readOnly } = params;
  const { umask = DEFAULT_UMASK } = params;
  const { preparedGitDir, singleBranch } = params;
  const { refreshSeconds: remoteRefreshSeconds = DEFAULT_REFRESH_SECONDS } = params;
  return {
    branch,
    depth,
    requiredCommitOid: requiredCommit,
    remoteRefreshSeconds,
    tokenFile,
    uid,
    gid,
    xattrs,
    umask,
    readOnly,
    gitDir: params.gitDir as HostPath | null,
    preparedGitDir,
    singleBranch,
  };
}

/** Throws Failure (busy: another repository is there; usage: it is there in another form). */
export function refuseOther(record: RepoRecord, params: Params<"mount">, url: string): void {
  const fail = (what: string) =>
    new Failure(
      "busy",
      `Cannot mount at ${params.dir}: ${what}; choose another directory, or remove-repo --name ` +
        record.name,
    );
  const plain = (text: string) => text.replace(/\/+$/, "");
  if (plain(url) !== plain(record.remote)) {
    throw fail(`"${record.name}" of ${record.remote} is registered there`);
  }
  if (params.branch !== null && params.branch !== record.branch) {
    const branch = record.branch === null ? "the remote's default branch" : record.branch;
    throw fail(`"${record.name}" with ${branch} is registered there`);
  }
  if (params.depth !== null && params.depth !== record.depth) {
    throw fail(`"${record.name}" with another depth is registered there`);
  }
  const { requiredCommit } = params;
  if (requiredCommit !== null && requiredCommit !== record.requiredCommitOid) {
    const what = record.requiredCommitOid ?? "no required commit";
    throw fail(`"${record.name}" with ${what} is registered there`);
  }
  if (params.gitDir !== null && params.gitDir !== record.gitDir) {
    const where = record.gitDir ?? "in its usual place";
    throw fail(`"${record.name}" with its git directory ${where} is registered there`);
  }
  if (params.preparedGitDir && !record.preparedGitDir) {
    throw fail(`"${record.name}" with a git directory of its own is registered there`);
  }
  if (params.singleBranch && !record.singleBranch) {
    throw fail(`"${record.name}" with all branches is registered there`);
  }
  if (params.xattrs && !record.xattrs) {
    throw fail(`"${record.name}" is registered there without extended attributes`);
  }
  if (params.readOnly && !record.readOnly) {
    throw fail(`"${record.name}" is registered there, and may be written`);
  }
  if (params.umask !== undefined && params.umask !== record.umask) {
    throw fail(`"${record.name}" with umask ${octal(record.umask)} is registered there`);
  }
  if (params.name !== null && params.name !== record.name) {
    throw fail(`it is registered there as "${record.name}"`);
  }
  if (params.ownerGiven && (params.uid !== record.uid || params.gid !== record.gid)) {
    throw fail(`"${record.name}" for user ${record.uid}, group ${record.gid} is registered there`);
  }
}

function octal(umask: number): string {
  return umask.toString(8).padStart(3, "0");
}

export function baseName(dir: string): string {
  // "/" has none; checkMountPoint refuses it.
  return dir.slice(dir.lastIndexOf("/") + 1).trim() || "root";
}
