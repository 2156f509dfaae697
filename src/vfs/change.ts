/**
 * What one system call changes: rows and names, first on disk in one transaction, then in memory.
 * When the transaction fails, memory is as it was.
 *
 * A node that has no row yet gets one, and so do the directories above it: a row is always found
 * from the root, by names that the overlay holds.
 */

import type { Inode } from "../overlay/inode.ts";
import type { Time } from "../fuse/filesystem.ts";
import type { OverlayStore } from "../overlay/store.ts";
import type { Name } from "../path.ts";
import { fileClock } from "../sys/mod.ts";
import type { Directory } from "./directory.ts";
import { Notes } from "./monitor.ts";
import type { Node } from "./node_table.ts";
import { OverlayEntries } from "./overlay_entries.ts";
import { isLater, type View } from "./view.ts";

interface NameChange {
  readonly parent: Node;
  readonly name: Name;
  /** Null: the name leads nowhere. */
  readonly ino: number | null;
  readonly mode: number;
}

export class Change {
  readonly #view: View;
  /** What git's file monitor is to hear of it. */
  readonly notes: Notes;
  readonly #rows = new Map<Node, Inode>();
  readonly #made: Inode[] = [];
  readonly #names: NameChange[] = [];
  readonly #removed: number[] = [];
  readonly #more: ((store: OverlayStore) => void)[] = [];
  /** Bases of the directories whose names change. */
  readonly #bases = new Map<Node, Directory | null>();
  /** Now: the last tick's, unless something was changed since that tick. */
  #time: Time = fileClock();

  constructor(view: View) {
    this.#view = view;
    this.notes = new Notes(view.monitor);
  }

  /** The row that the node has, or gets by this change. Throws Parked, FsError. */
  row(node: Node): Inode {
    const row = this.#rows.get(node) ?? node.inode;
    if (row !== null) return row;
    const made = this.#view.rowOfUntouched(node);
    this.#rows.set(node, made);
    if (node.parent !== null) this.putName(node.parent, node.name, made);
    return made;
  }

  /** Changes fields of a node's row. */
  set(node: Node, fields: Partial<Inode>): void {
    this.#rows.set(node, { ...this.row(node), ...fields });
  }

  /** For what is new. */
  get time(): Time {
    return this.#time;
  }

  /** As `set`, and its ctime is now. */
  touch(node: Node, fields: Partial<Inode> = {}): void {
    const { seconds, nanoseconds } = this.#timeAfter(node);
    this.set(node, { ...fields, ctimeSeconds: seconds, ctimeNanoseconds: nanoseconds });
  }

  /** A directory whose names changed: mtime and ctime are now. */
  touchDirectory(node: Node): void {
    const { seconds, nanoseconds } = this.#timeAfter(node);
    this.touch(node, { mtimeSeconds: seconds, mtimeNanoseconds: nanoseconds });
  }

  /** Whoever looks between two changes sees ctime move, however close they are. */
  #timeAfter(node: Node): Time {
    const shown = this.#view.ctimeOf(node);
    if (!isLater(this.#time, shown)) this.#time = fileClock({ precise: true });
    return this.#time;
  }

  /** A row that no node has yet. */
  make(inode: Inode): void {
    this.#made.push(inode);
  }

  /** A row goes, with what hangs on it. */
  remove(ino: number): void {
    this.#removed.push(ino);
  }

  putName(parent: Node, name: Name, { ino, mode }: Inode): void {
    this.#changeName({ parent, name, ino, mode });
  }

  hideName(parent: Node, name: Name): void {
    this.#changeName({ parent, name, ino: null, mode: 0 });
  }

  #changeName(change: NameChange): void {
    const { parent } = change;
    if (!this.#bases.has(parent)) this.#bases.set(parent, this.#view.merged(parent).base);
    this.row(parent);
    this.#names.push(change);
  }

  /** Anything else that belongs to the same transaction. */
  also(write: (store: OverlayStore) => void): void {
    this.#more.push(write);
  }

  /** `frees`: it makes room on the disk. Throws FsError, and then nothing has changed. */
  commit(options: { readonly frees?: boolean } = {}): void {
    const { rows } = this.notes;
    this.#view.overlay.commit((store) => this.#write(store), { ...options, rows });
    this.notes.written();
    for (const [node, inode] of this.#rows) this.#view.nodes.setInode(node, inode);
    for (const { parent, name, ino, mode } of this.#names) {
      const base = this.#baseOf(parent);
      parent.entries ??= new OverlayEntries(base);
      if (ino === null) parent.entries.hide(base, name);
      else parent.entries.put(base, name, ino, mode);
    }
  }

  #write(store: OverlayStore): void {
    // What has no name lives in memory until it is forgotten.
    for (const [node, inode] of this.#rows) if (!node.unlinked) store.putInode(inode);
    for (const inode of this.#made) store.putInode(inode);
    for (const { parent, name, ino } of this.#names) {
      const parentIno = this.row(parent).ino;
      if (ino !== null) store.putDentry(parentIno, name, ino);
      else if (this.#baseOf(parent)?.get(name) !== undefined) {
        store.putDentry(parentIno, name, null);
      } else store.deleteDentry(parentIno, name);
    }
    for (const ino of this.#removed) store.deleteInode(ino);
    for (const write of this.#more) write(store);
  }

  #baseOf(parent: Node): Directory | null {
    return this.#bases.get(parent) ?? null;
  }
}
