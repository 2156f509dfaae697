/**
 * What lstat(2) says in a mount of files that nobody has changed, as git keeps it in an index. Must
 * agree with what vfs/ reports (NodeTable.childIno, View).
 */

import type { Inos } from "../git/first_index.ts";
import { type FileStat, NO_STAT } from "../git/index_file.ts";
import { inoOf, inoOfBytes, ROOT_INO } from "../vfs/ino.ts";

export const BASE_INOS: Inos = {
  root: ROOT_INO,
  ofDirectory: (parentIno, name) => inoOf(parentIno, name, ""),
  ofFile: inoOfBytes,
};

/** But for the ino, and the size, which is not known yet: 0. */
export function baseStat(
  base: { readonly timeSeconds: number; readonly uid: number; readonly gid: number },
): FileStat {
  const { timeSeconds, uid, gid } = base;
  return { ...NO_STAT, ctimeSeconds: timeSeconds, mtimeSeconds: timeSeconds, uid, gid };
}
