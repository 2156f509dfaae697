/** An inode of the overlay: what a path became when something about it was changed. */

import type { BaseId } from "../git/base_id.ts";

export const S_IFMT = 0o170000;
export const S_IFREG = 0o100000;
export const S_IFDIR = 0o040000;
export const S_IFLNK = 0o120000;

/** Where a regular file's bytes, or a link's target, are. */
export const CONTENT = {
  /** Directories, fifos, sockets, devices; links made here (`target`). */
  none: 0,
  /** The blob `oid` of the base, converted as its id says. */
  base: 1,
  /** The backing file `upper/<ino>`. */
  upper: 2,
} as const;
export type Content = (typeof CONTENT)[keyof typeof CONTENT];

/**
 * Replaced as a whole, never changed: memory follows a commit, and keeps the old one when it fails.
 *
 * Of a file with a backing file the times and the size are the backing file's own, so that a write
 * needs no row. Its ctime is the later of both, since chmod, rename and link change the row only.
 */
export interface Inode {
  readonly ino: number;
  /** Kind and permissions, as st_mode. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  /** Names of a file; a directory's links are counted when asked. */
  readonly nlink: number;
  readonly atimeSeconds: number;
  readonly atimeNanoseconds: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  readonly ctimeSeconds: number;
  readonly ctimeNanoseconds: number;
  readonly content: Content;
  /** Blob (content `base`), or the tree beneath a directory; null: nothing of the base. */
  readonly oid: BaseId | null;
  /** Of a link made here. */
  readonly target: Uint8Array<ArrayBuffer> | null;
}

export function isDirectory({ mode }: { readonly mode: number }): boolean {
  return (mode & S_IFMT) === S_IFDIR;
}

export function isRegular({ mode }: { readonly mode: number }): boolean {
  return (mode & S_IFMT) === S_IFREG;
}
