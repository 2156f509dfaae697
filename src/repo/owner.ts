/** Who a repository's files belong to, and how commands run in its user's git directory. */

import { Failure } from "../failure.ts";
import type { Owner } from "../git/process.ts";
import type { UserGitDir } from "../git/user_git_dir.ts";
import { effectiveUid } from "../sys/process.ts";
import type { Layout } from "./layout.ts";
import type { RepoRecord } from "./types.ts";

/**
 * The user to run as and to give files to; null: this process's own, nothing has to change. Throws
 * Failure (usage) when this process may not act for that user.
 */
export function ownerOf(who: { readonly uid: number; readonly gid: number }): Owner | null {
  const self = effectiveUid();
  if (who.uid === self) return null;
  if (self === 0) return { uid: who.uid, gid: who.gid };
  throw new Failure("usage", `Cannot act for user ${who.uid}: only root can; run afs as that user`);
}

/** The user's git directory of a repository. */
export function userGitDirOf(record: RepoRecord, layout: Layout): UserGitDir {
  return {
    gitDir: layout.repo(record.id).userGitDir,
    workTree: layout.emptyDir,
    owner: ownerOf(record),
  };
}
