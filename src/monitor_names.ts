/**
 * Names that git's file monitor and the mount agree on. The hook in the user's configuration reads
 * `<synthetic directory>/fsmonitor/t-<token>~<who asks>` in the mount: git's answer.
 */

import type { Name } from "./path.ts";

/** At the root of the mount: can be looked up, and is in no listing. */
export function syntheticDirName(repoId: string): Name {
  return `.afs-${repoId.slice(0, 8)}` as Name;
}

/** Of a mount in which nothing was changed yet. Never pure digits, which are git's own tokens. */
export function firstToken(repoId: string): string {
  return `${repoId}-0`;
}
