/**
 * What lstat(2) says in a mount of files that nobody has changed, as git keeps it in an index. Must
 * agree with what vfs/ reports.
 */

import type { FileStat, IndexEntry } from "../git/index_file.ts";
import { inoOf, ROOT_INO } from "../vfs/ino.ts";

export interface BaseStats {
  /** mtime and ctime of everything. */
  readonly timeSeconds: number;
  readonly uid: number;
  readonly gid: number;
}

/** Sizes are not known yet: 0. To be asked in the order of an index, which is fastest. */
export function baseStatOf(stats: BaseStats): (entry: IndexEntry) => FileStat {
  const { timeSeconds, uid, gid } = stats;
  const inos = new Map([["", ROOT_INO]]);
  const directoryIno = (path: string): number => {
    let ino = inos.get(path);
    if (ino === undefined) {
      const slash = path.lastIndexOf("/");
      ino = inoOf(directoryIno(path.slice(0, Math.max(0, slash))), path.slice(slash + 1), "");
      inos.set(path, ino);
    }
    return ino;
  };
  return ({ path, oid }) => {
    const slash = path.lastIndexOf("/");
    const parentIno = directoryIno(path.slice(0, Math.max(0, slash)));
    return {
      ctimeSeconds: timeSeconds,
      ctimeNanoseconds: 0,
      mtimeSeconds: timeSeconds,
      mtimeNanoseconds: 0,
      dev: 0,
      // The low 32 bits.
      ino: inoOf(parentIno, path.slice(slash + 1), oid) >>> 0,
      uid,
      gid,
      sizeBytes: 0,
    };
  };
}
