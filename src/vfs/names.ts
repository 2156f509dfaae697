/** System calls that make, remove and move names. */

import { ERRNO, FsError } from "../errno.ts";
import { type Caller, type Entry, RENAME } from "../fuse/filesystem.ts";
import {
  CONTENT,
  type Inode,
  isDirectory,
  isRegular,
  S_IFDIR,
  S_IFLNK,
  S_IFREG,
} from "../overlay/inode.ts";
import type { Name } from "../path.ts";
import { Change } from "./change.ts";
import { S_ISGID } from "./modes.ts";
import type { Node } from "./node_table.ts";
import { isDirectoryEntry, type MergedEntry, OverlayEntries } from "./overlay_entries.ts";
import type { View } from "./view.ts";

interface Making {
  readonly mode: number;
  readonly rdev?: number;
  readonly target?: Uint8Array<ArrayBuffer>;
  readonly caller: Caller;
}

/** A name in a directory, as the kernel gives it. */
interface Place {
  readonly parent: Node;
  readonly name: Name;
}

export class Names {
  readonly #view: View;

  constructor(view: View) {
    this.#view = view;
  }

  /** mknod(2), and open(2) with O_CREAT. */
  mknod(parentNodeid: number, name: Name, mode: number, rdev: number, caller: Caller): Entry {
    return this.#make(this.#place(parentNodeid, name), { mode, rdev, caller });
  }

  mkdir(parentNodeid: number, name: Name, mode: number, caller: Caller): Entry {
    return this.#make(this.#place(parentNodeid, name), { mode: S_IFDIR | (mode & 0o7777), caller });
  }

  symlink(
    parentNodeid: number,
    name: Name,
    target: Uint8Array<ArrayBuffer>,
    caller: Caller,
  ): Entry {
    return this.#make(this.#place(parentNodeid, name), { mode: S_IFLNK | 0o777, target, caller });
  }

  /** open(2) with O_TMPFILE: a file without a name, which link(2) may give one. */
  tmpfile(parentNodeid: number, mode: number, caller: Caller): Entry {
    const parent = this.#view.directoryNode(parentNodeid);
    if (parent.isSynthetic) throw new FsError(ERRNO.EPERM);
    const change = new Change(this.#view);
    const making = { mode: S_IFREG | (mode & 0o7777), caller };
    const inode = { ...this.#newInode(parent, making, change), nlink: 0 };
    this.#view.overlay.createBackingFile(inode.ino);
    return this.#view.entry(this.#view.nodes.nameless(inode));
  }

  link(nodeid: number, newParentNodeid: number, newName: Name): Entry {
    const node = this.#view.node(nodeid);
    if (node.isDirectory || node.isSynthetic) throw new FsError(ERRNO.EPERM);
    const { parent, name } = this.#place(newParentNodeid, newName);
    this.#refuseTaken(parent, name);
    const change = new Change(this.#view);
    const row = change.row(node);
    change.touch(node, { nlink: row.nlink + 1 });
    change.putName(parent, name, row);
    change.touchDirectory(parent);
    change.notes.name(parent, name);
    // One of O_TMPFILE has had no row so far.
    change.also((store) => store.putInode(change.row(node)));
    change.commit();
    this.#view.nodes.addName(node, parent, name);
    return this.#view.entry(node);
  }

  unlink(parentNodeid: number, name: Name): void {
    this.#remove(this.#place(parentNodeid, name), (entry) => {
      if (isDirectoryEntry(entry)) throw new FsError(ERRNO.EISDIR);
    });
  }

  rmdir(parentNodeid: number, name: Name): void {
    this.#remove(this.#place(parentNodeid, name), (entry) => {
      if (!isDirectoryEntry(entry)) throw new FsError(ERRNO.ENOTDIR);
    });
  }

  /** rename(2), and renameat2(2) with at most one of RENAME. */
  rename(
    parentNodeid: number,
    name: Name,
    newParentNodeid: number,
    newName: Name,
    flags: number,
  ): void {
    const from = this.#place(parentNodeid, name);
    const to = this.#place(newParentNodeid, newName);
    this.#refuseReserved(from);
    this.#refuseReserved(to);
    const entry = this.#view.find(from.parent, from.name);
    if (entry === undefined) throw new FsError(ERRNO.ENOENT);
    const newEntry = this.#view.find(to.parent, to.name);
    if ((flags & RENAME.NOREPLACE) !== 0 && newEntry !== undefined) {
      throw new FsError(ERRNO.EEXIST);
    }
    const exchange = (flags & RENAME.EXCHANGE) !== 0;
    if (exchange && newEntry === undefined) throw new FsError(ERRNO.ENOENT);
    const { nodes } = this.#view;
    const node = this.#view.childOf(from.parent, from.name, entry);
    const newNode = newEntry === undefined
      ? null
      : this.#view.childOf(to.parent, to.name, newEntry);
    try {
      // Two names of one file: POSIX wants both to stay.
      if (node === newNode) return;
      if (exchange && newNode !== null) this.#exchange(from, node, to, newNode);
      else this.#move(from, node, to, newNode);
    } finally {
      nodes.release(node);
      if (newNode !== null) nodes.release(newNode);
    }
  }

  #move(from: Place, node: Node, to: Place, replaced: Node | null): void {
    if (replaced !== null) this.#refuseReplacing(node, replaced);
    const change = new Change(this.#view);
    const row = change.row(node);
    change.touch(node);
    const last = replaced !== null && this.#removeRow(change, replaced);
    change.hideName(from.parent, from.name);
    change.putName(to.parent, to.name, row);
    change.touchDirectory(from.parent);
    change.touchDirectory(to.parent);
    noteMove(change, node, from, to);
    change.commit();
    if (replaced !== null) this.#forgetName(to, replaced, last, change);
    this.#view.nodes.addName(node, to.parent, to.name);
    this.#view.nodes.removeName(node, from.parent, from.name, { last: false });
    this.#hasMoved(node, from, to);
  }

  /** The kernel's listing of a directory has the number of its parent in it. */
  #hasMoved(node: Node, from: Place, to: Place): void {
    if (!node.isDirectory || from.parent === to.parent) return;
    this.#view.options.invalidateListing(node.nodeid);
  }

  #exchange(from: Place, node: Node, to: Place, other: Node): void {
    const change = new Change(this.#view);
    const row = change.row(node);
    const otherRow = change.row(other);
    change.touch(node);
    change.touch(other);
    change.putName(from.parent, from.name, otherRow);
    change.putName(to.parent, to.name, row);
    change.touchDirectory(from.parent);
    change.touchDirectory(to.parent);
    noteMove(change, node, from, to);
    noteMove(change, other, to, from);
    change.commit();
    const { nodes } = this.#view;
    nodes.removeName(node, from.parent, from.name, { last: false });
    nodes.removeName(other, to.parent, to.name, { last: false });
    nodes.addName(node, to.parent, to.name);
    nodes.addName(other, from.parent, from.name);
    this.#hasMoved(node, from, to);
    this.#hasMoved(other, to, from);
  }

  /** Throws FsError, Parked. */
  #refuseReplacing(node: Node, replaced: Node): void {
    if (replaced.isDirectory) {
      if (!node.isDirectory) throw new FsError(ERRNO.EISDIR);
      this.#refuseFilled(replaced);
    } else if (node.isDirectory) throw new FsError(ERRNO.ENOTDIR);
  }

  #remove(place: Place, check: (entry: MergedEntry) => void): void {
    const { parent, name } = place;
    this.#refuseReserved(place);
    const entry = this.#view.find(parent, name);
    if (entry === undefined) throw new FsError(ERRNO.ENOENT);
    check(entry);
    const node = this.#view.childOf(parent, name, entry);
    try {
      if (node.isDirectory) this.#refuseFilled(node);
      const change = new Change(this.#view);
      const last = this.#removeRow(change, node);
      change.hideName(parent, name);
      change.touchDirectory(parent);
      if (node.isDirectory) change.notes.directoryGone(parent, name);
      else change.notes.name(parent, name);
      change.commit({ frees: true });
      this.#forgetName(place, node, last, change);
    } finally {
      this.#view.nodes.release(node);
    }
  }

  /** One name less: the row of a file with others stays. Whether it was the last one. */
  #removeRow(change: Change, node: Node): boolean {
    const { inode } = node;
    if (inode === null) return true;
    if (inode.nlink > 1) change.touch(node, { nlink: inode.nlink - 1 });
    else change.remove(inode.ino);
    return inode.nlink <= 1;
  }

  /** In memory, after the name is gone from the disk. */
  #forgetName({ parent, name }: Place, node: Node, last: boolean, { time }: Change): void {
    const { nodes } = this.#view;
    nodes.removeName(node, parent, name, { last });
    if (!last || node.inode === null) return;
    const { seconds, nanoseconds } = time;
    const ctime = { ctimeSeconds: seconds, ctimeNanoseconds: nanoseconds };
    nodes.setInode(node, { ...node.inode, ...ctime, nlink: 0 });
  }

  /** Throws FsError (ENOTEMPTY), Parked. */
  #refuseFilled(node: Node): void {
    const { base, overlay } = this.#view.merged(node);
    const visible = overlay?.visibleCount ?? base?.entries.length ?? 0;
    if (visible > 0) throw new FsError(ERRNO.ENOTEMPTY);
  }

  #make(place: Place, making: Making): Entry {
    const { parent, name } = place;
    this.#refuseTaken(parent, name);
    const change = new Change(this.#view);
    const inode = this.#newInode(parent, making, change);
    change.make(inode);
    change.putName(parent, name, inode);
    change.touchDirectory(parent);
    if (isDirectory(inode)) change.notes.directoryMade(parent, name);
    else change.notes.name(parent, name);
    const { overlay, nodes } = this.#view;
    if (inode.content === CONTENT.upper) overlay.createBackingFile(inode.ino);
    try {
      change.commit();
    } catch (error) {
      if (inode.content === CONTENT.upper) overlay.removeBackingFile(inode.ino);
      throw error;
    }
    const node = nodes.childOfRow(parent, name, inode);
    // Nothing is in it yet: no row need be asked.
    if (node.isDirectory) node.entries = new OverlayEntries(null);
    // Its name says so, and its bytes too.
    this.#view.monitor.note(node);
    return this.#view.entry(node);
  }

  #newInode(parent: Node, making: Making, { time }: Change): Inode {
    const { mode, rdev = 0, target = null, caller } = making;
    const parentMode = parent.inode?.mode ?? this.#view.modes[parent.kind];
    // A setgid directory hands on its group, and to directories that bit too (inode_init_owner).
    const inherits = (parentMode & S_ISGID) !== 0;
    const { seconds, nanoseconds } = time;
    return {
      ino: this.#view.overlay.allocateIno(),
      mode: inherits && isDirectory({ mode }) ? mode | S_ISGID : mode,
      uid: caller.uid,
      gid: inherits ? parent.inode?.gid ?? this.#view.options.gid : caller.gid,
      rdev,
      nlink: 1,
      atimeSeconds: seconds,
      atimeNanoseconds: nanoseconds,
      mtimeSeconds: seconds,
      mtimeNanoseconds: nanoseconds,
      ctimeSeconds: seconds,
      ctimeNanoseconds: nanoseconds,
      content: isRegular({ mode }) ? CONTENT.upper : CONTENT.none,
      oid: null,
      target,
    };
  }

  #place(parentNodeid: number, name: Name): Place {
    const parent = this.#view.directoryNode(parentNodeid);
    if (parent.isSynthetic) throw new FsError(ERRNO.EPERM);
    // Removed, and somebody is still in it.
    if (parent.unlinked) throw new FsError(ERRNO.ENOENT);
    return { parent, name };
  }

  #refuseTaken(parent: Node, name: Name): void {
    if (this.#view.isReserved(parent, name) || this.#view.find(parent, name) !== undefined) {
      throw new FsError(ERRNO.EEXIST);
    }
  }

  #refuseReserved({ parent, name }: Place): void {
    if (this.#view.isReserved(parent, name)) throw new FsError(ERRNO.EPERM);
  }
}

/** What is at `from` goes to `to`. */
function noteMove({ notes }: Change, node: Node, from: Place, to: Place): void {
  if (node.isDirectory) {
    notes.directoryGone(from.parent, from.name);
    notes.directoryMoved(node, to.parent, to.name);
  } else {
    notes.name(from.parent, from.name);
    notes.name(to.parent, to.name);
  }
}
