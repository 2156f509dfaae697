/**
 * Looks at where the user's git is, without touching what is not ours: entries of the git directory
 * are looked at by lstat(2) only, so a link there leads nowhere. The directory itself may be a link
 * where it lies elsewhere and is another user's: into a mount of ours, say, where a thread of the
 * daemon that waited would wait for itself, and nothing could end it. So the owner looks there.
 */

import type { UserGitDir } from "../git/user_git_dir.ts";
import { runShell } from "../git/user_shell.ts";
import type { Layout } from "./layout.ts";
import { type GitDirRecord, userGitDirOf } from "./owner.ts";

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

/** Whether nobody but the owner may look there. */
export function isForOwner(record: GitDirRecord, layout: Layout): boolean {
  return record.gitDir !== null && userGitDirOf(record, layout).owner !== null;
}

export interface Sight {
  /** git is in the middle of something. */
  readonly isBusy: boolean;
  /** Another one after each change of the index; null: there is none. */
  readonly index: string | null;
  /** Another one whenever an entry comes, goes or is replaced; null: the directory is gone. */
  readonly folder: string | null;
}

export async function look(record: GitDirRecord, layout: Layout): Promise<Sight> {
  const dir = userGitDirOf(record, layout);
  const stamps = isForOwner(record, layout) ? await ownersStamps(dir) : stampsAt(dir.gitDir);
  return {
    isBusy: BUSY.some((name) => stamps.has(name)),
    index: stamps.get("index") ?? null,
    folder: stamps.get(".") ?? null,
  };
}

const NAMES = [".", "index", ...BUSY];

function stampsAt(gitDir: string): Map<string, string> {
  const stamps = new Map<string, string>();
  for (const name of NAMES) {
    try {
      const { ino, size, mtime, ctime } = Deno.lstatSync(`${gitDir}/${name}`);
      stamps.set(name, `${ino} ${size} ${mtime?.getTime()} ${ctime?.getTime()}`);
    } catch {
      // It is not there.
    }
  }
  return stamps;
}

/** One line for each that is there. */
const STAT = `
cd "$GIT_DIR" 2>/dev/null || exit 0
exec stat -c '%n %i %s %y %z' "$@" 2>/dev/null
`;

async function ownersStamps(dir: UserGitDir): Promise<Map<string, string>> {
  const { stdout } = await runShell(dir, STAT, { args: NAMES });
  const lines = new TextDecoder().decode(stdout).split("\n").filter((line) => line !== "");
  return new Map(lines.map((line) => {
    const space = line.indexOf(" ");
    return [line.slice(0, space), line.slice(space + 1)];
  }));
}
