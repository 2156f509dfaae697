/**
 * What differs between a work tree and its base, for whoever does not mount it: counted from the
 * overlay's rows alone, in time that follows from what was changed.
 */

import { type BaseId, plainOid } from "../git/base_id.ts";
import { CONTENT, type Inode, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from "../overlay/inode.ts";
import type { Dentry } from "../overlay/store.ts";
import type { EntryKind } from "../git/tree.ts";
import { turn } from "../promises.ts";
import type { BaseEntry, Directory } from "./directory.ts";
import { ROOT_INO } from "./ino.ts";

/** Names, each counted once; a directory that was moved or replaced is one. */
export interface ChangeCounts {
  /** In the work tree only. */
  readonly created: number;
  /** Another content, kind or executable bit than the base's. */
  readonly modified: number;
  /** In the base only. */
  readonly deleted: number;
}

/** The overlay's rows, to read. */
export interface OverlayRows {
  inode(ino: number): Inode | null;
  dentries(parentIno: number): Dentry[];
}

const TURN_MS = 10;

/** Lets others have a turn every few milliseconds. */
export async function countChanges(
  rows: OverlayRows,
  rootTreeId: BaseId,
  directory: (treeId: BaseId) => Directory | null,
): Promise<ChangeCounts> {
  const counts = { created: 0, modified: 0, deleted: 0 };
  // The overlay's word counts: a rebase is told to others when it has ended.
  const root = rows.inode(ROOT_INO)?.oid ?? rootTreeId;
  const queue: { readonly ino: number; readonly base: Directory | null }[] = [
    { ino: ROOT_INO, base: directory(root) },
  ];
  let since = performance.now();
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    for (const { name, ino, mode } of rows.dentries(next.ino)) {
      const entry = next.base?.get(name);
      // A rebase may have left the whiteout of a name that is in no tree any more.
      if (ino === null) counts.deleted += entry === undefined ? 0 : 1;
      else if (entry === undefined) {
        counts.created++;
        if ((mode & S_IFMT) === S_IFDIR) queue.push({ ino, base: null });
      } else {
        const inode = rows.inode(ino);
        if (inode === null || differs(inode, entry)) counts.modified++;
        else if (entry.kind === "directory") queue.push({ ino, base: directory(entry.oid) });
      }
    }
    if (performance.now() - since > TURN_MS) {
      await turn();
      since = performance.now();
    }
  }
  return counts;
}

const KINDS: Readonly<Record<EntryKind, number>> = {
  file: S_IFREG,
  executable: S_IFREG,
  symlink: S_IFLNK,
  directory: S_IFDIR,
  gitlink: S_IFDIR,
};

/**
 * As git would see it, but for content that was written and is the same again. What is the same
 * blob under an older conversion is the same to git.
 */
export function differs({ mode, content, oid }: Inode, { kind, oid: baseOid }: BaseEntry): boolean {
  if ((mode & S_IFMT) !== KINDS[kind]) return true;
  // What is inside a submodule is not this repository's.
  if (kind === "gitlink") return false;
  if (oid === null || plainOid(oid) !== plainOid(baseOid)) return true;
  if (kind === "directory") return false;
  if (content !== CONTENT.base) return true;
  return kind !== "symlink" && (mode & 0o100) !== 0 !== (kind === "executable");
}
