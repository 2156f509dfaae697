/**
 * Names of the file monitor that git asks: the synthetic directory at the root of a mount, which
 * can be looked up and is not listed, and the token that the first index has.
 */

import type { Name } from "./path.ts";

/** `.afs-` and the first 8 digits of the repository's id. */
export function syntheticDirName(repoId: string): Name {
  return `.afs-${repoId.slice(0, 8)}` as Name;
}

/** "Nothing was changed yet." Never pure digits, which are git's own tokens. */
export function firstToken(repoId: string): string {
  return `${repoId}-0`;
}
