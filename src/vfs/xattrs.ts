/** Extended attributes, of repositories that have them switched on: rows beside the inode. */

import { ERRNO, FsError } from "../errno.ts";
import { bytesOf, type Name } from "../path.ts";
import { Change } from "./change.ts";
import type { Node } from "./node_table.ts";
import type { View } from "./view.ts";

/** Flags of setxattr(2). */
const XATTR = { CREATE: 1, REPLACE: 2 } as const;
const NAMESPACES = ["user.", "trusted.", "security."];

export class Xattrs {
  readonly #view: View;

  constructor(view: View) {
    this.#view = view;
  }

  /** Throws FsError (ENODATA, EOPNOTSUPP). */
  get(node: Node, name: Name): Uint8Array<ArrayBuffer> {
    refuseUnknown(name);
    const value = node.inode === null ? null : this.#view.overlay.store.xattr(node.ino, name);
    if (value === null) throw new FsError(ERRNO.ENODATA);
    return value;
  }

  /** Names, each with a NUL behind it. */
  list(node: Node): Uint8Array<ArrayBuffer> {
    if (node.inode === null) return new Uint8Array();
    const names = this.#view.overlay.store.xattrNames(node.ino);
    return bytesOf(names.map((name) => `${name}\0`).join(""));
  }

  set(node: Node, name: Name, value: Uint8Array<ArrayBuffer>, flags: number): void {
    const has = this.#has(node, name);
    if (has && (flags & XATTR.CREATE) !== 0) throw new FsError(ERRNO.EEXIST);
    if (!has && (flags & XATTR.REPLACE) !== 0) throw new FsError(ERRNO.ENODATA);
    const change = new Change(this.#view);
    change.touch(node);
    const { ino } = change.row(node);
    change.also((store) => store.putXattr(ino, name, value));
    change.commit();
  }

  remove(node: Node, name: Name): void {
    if (!this.#has(node, name)) throw new FsError(ERRNO.ENODATA);
    const change = new Change(this.#view);
    change.touch(node);
    change.also((store) => store.deleteXattr(node.ino, name));
    change.commit();
  }

  #has(node: Node, name: Name): boolean {
    refuseUnknown(name);
    if (node.isSynthetic) throw new FsError(ERRNO.EPERM);
    return node.inode !== null && this.#view.overlay.store.xattr(node.ino, name) !== null;
  }
}

/** ACLs would be shown but not enforced (no FUSE_POSIX_ACL), so they are not kept. */
function refuseUnknown(name: string): void {
  if (!NAMESPACES.some((space) => name.startsWith(space))) throw new FsError(ERRNO.EOPNOTSUPP);
}
