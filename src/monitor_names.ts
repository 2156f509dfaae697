/**
 * Names that git's file monitor and the mount agree on. The hook in the user's configuration reads
 * `<synthetic directory>/fsmonitor/t-<token>~<who asks>` in the mount: git's answer.
 */

import type { Name } from "./path.ts";

/** At the root of the mount: can be looked up, and is in no listing. */
export function syntheticDirName(repoId: string): Name {
  return `.afs-${repoId.slice(0, 8)}` as Name;
}

/** In that directory. */
export const MONITOR_DIR = "fsmonitor" as Name;
/** Before the token, in the name of an answer. */
export const TOKEN_PREFIX = "t-";
/** Behind the token: who asks. */
export const ASKER_AT = "~";
/** As the first path of an answer: all of them (fsmonitor.c, refresh_fsmonitor). */
export const EVERYTHING = "/";

/** Of a mount in which nothing was changed yet. Never pure digits, which are git's own tokens. */
export function firstToken(repoId: string): string {
  return `${repoId}-0`;
}
