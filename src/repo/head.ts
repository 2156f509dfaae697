/**
 * Looks at where the user's git is, without touching what is not ours: the git directory itself is
 * where we made it, and its entries are looked at by lstat(2) only, so a link there leads nowhere.
 */

import type { HostPath } from "../path.ts";

/**
 * What git has while it moves HEAD, or is about to move it again. Not MERGE_HEAD and the like: HEAD
 * stays until the conflict is resolved, which may take hours.
 */
const BUSY = ["index.lock", "HEAD.lock", "rebase-merge", "rebase-apply"] as const;

/** Entries of a git directory whose coming, going or change may mean that HEAD has moved. */
const TELLING: ReadonlySet<string> = new Set([...BUSY, "HEAD", "index", "packed-refs"]);

export function isTelling(name: string): boolean {
  return TELLING.has(name);
}

/** git is in the middle of something. */
export function isBusy(gitDir: HostPath): boolean {
  return BUSY.some((name) => stampOf(`${gitDir}/${name}`) !== null);
}

/** Another one after each change of the index; null: there is none. */
export function indexStamp(gitDir: HostPath): string | null {
  return stampOf(`${gitDir}/index`);
}

/** Another one whenever an entry comes, goes or is replaced; null: the directory is gone. */
export function folderStamp(gitDir: HostPath): string | null {
  return stampOf(gitDir);
}

function stampOf(path: string): string | null {
  try {
    const { ino, size, mtime, ctime } = Deno.lstatSync(path);
    return `${ino} ${size} ${mtime?.getTime()} ${ctime?.getTime()}`;
  } catch {
    return null;
  }
}
