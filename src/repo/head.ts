/**
 * Looks at where the user's git is, without touching what is not ours: the git directory's entries
 * are looked at by lstat(2) only, so a link there leads nowhere. One that lies elsewhere may be a
 * link itself, to where lstat(2) waits for ever: no thread that others need ever waits for it.
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
export async function isBusy(gitDir: HostPath): Promise<boolean> {
  const stamps = await Promise.all(BUSY.map((name) => stampOf(`${gitDir}/${name}`)));
  return stamps.some((stamp) => stamp !== null);
}

/** Another one after each change of the index; null: there is none. */
export async function indexStamp(gitDir: HostPath): Promise<string | null> {
  return await stampOf(`${gitDir}/index`);
}

/** Another one whenever an entry comes, goes or is replaced; null: the directory is gone. */
export async function folderStamp(gitDir: HostPath): Promise<string | null> {
  return await stampOf(gitDir);
}

async function stampOf(path: string): Promise<string | null> {
  try {
    const { ino, size, mtime, ctime } = await Deno.lstat(path);
    return `${ino} ${size} ${mtime?.getTime()} ${ctime?.getTime()}`;
  } catch {
    return null;
  }
}
