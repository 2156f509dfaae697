/**
 * What the kernel holds of us: nodes with their lookup counts. A node is an inode, so a file with
 * several names is one node.
 *
 * Invariants
 *  1. A nodeid is never reused.
 *  2. A node exists while the kernel counts it or a child of it exists; the root always.
 *  3. Two untouched nodes that exist at the same time differ in ino.
 *  4. A node is in `children` of its parent under each name that somebody looked up; once unlinked
 *     it is in none, and has no parent.
 */

import { Bug } from "../failure.ts";
import { FUSE_ROOT_ID } from "../fuse/abi.ts";
import type { EntryKind } from "../git/tree.ts";
import { type BaseId, plainOid } from "../git/base_id.ts";
import { CONTENT, type Inode, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from "../overlay/inode.ts";
import type { Name } from "../path.ts";
import { inoOf, ROOT_INO } from "./ino.ts";
import type { OverlayEntries } from "./overlay_entries.ts";

/**
 * A tree entry's kind; a fifo, socket or device; or what is made up: `.git` at the root, and the
 * file monitor's directories and answers (monitor_files.ts).
 */
export type NodeKind = EntryKind | "special" | "gitfile" | "monitor" | "answer";

/** No object of the base. */
export const NO_OID = "" as BaseId;

/** One name of a node. */
interface Place {
  readonly parent: Node;
  readonly name: Name;
}

export class Node {
  lookupCount = 0;
  children: Map<Name, Node> | null = null;
  /** Its row; null: untouched. Set by `setInode` only. */
  inode: Inode | null = null;
  /** Names of a directory that differ from the base; null: not loaded, or none. */
  entries: OverlayEntries | null = null;
  /** Names looked up besides `parent` and `name` (hard links). */
  others: Place[] | null = null;
  /** No name leads here any more; it lives until it is forgotten, and has no row. */
  unlinked = false;
  /**
   * The journal's sequence after which this is in it at its present place: a file's content, the
   * names of a directory (monitor.ts).
   */
  notedAt = 0;

  constructor(
    readonly nodeid: number,
    public ino: number,
    public kind: NodeKind,
    /** Tree or blob of the base that shows here; for a gitlink the commit; NO_OID: none. */
    public oid: BaseId,
    public parent: Node | null,
    public name: Name,
  ) {}

  get isDirectory(): boolean {
    return this.kind === "directory" || this.kind === "gitlink" || this.kind === "monitor";
  }

  get isFile(): boolean {
    return this.kind === "file" || this.kind === "executable";
  }

  /** Nobody made it, and nobody may change it. */
  get isSynthetic(): boolean {
    return this.kind === "gitfile" || this.kind === "monitor" || this.kind === "answer";
  }

  /** Its bytes are in a backing file. */
  get hasBackingFile(): boolean {
    return this.inode !== null && this.inode.content === CONTENT.upper;
  }

  /** Its bytes, or a link's target, are a blob of the base. */
  get showsBlob(): boolean {
    return this.oid !== NO_OID && (this.isFile || this.kind === "symlink");
  }

  setInode(inode: Inode): void {
    this.inode = inode;
    this.kind = kindOf(inode);
    this.oid = inode.oid ?? NO_OID;
  }

  /** Trees of the base from the root to this directory, as far as there are any. */
  treeIds(): BaseId[] {
    const above = this.parent?.treeIds() ?? [];
    if (this.kind === "directory" && this.oid !== NO_OID) above.push(this.oid);
    return above;
  }
}

function kindOf({ mode }: Inode): NodeKind {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return "directory";
    case S_IFREG:
      return (mode & 0o100) === 0 ? "file" : "executable";
    case S_IFLNK:
      return "symlink";
    default:
      return "special";
  }
}

export class NodeTable {
  readonly root: Node;
  readonly #nodes = new Map<number, Node>();
  /** Nodes without a row by what stat shows. */
  readonly #inos = new Map<number, Node>();
  /** Nodes with a row. */
  readonly #rows = new Map<number, Node>();
  readonly #onDrop: (node: Node) => void;
  #nextNodeid = FUSE_ROOT_ID + 1;

  /** `onDrop`: a node is gone for good. */
  constructor(rootTreeId: BaseId, onDrop: (node: Node) => void) {
    this.#onDrop = onDrop;
    this.root = new Node(FUSE_ROOT_ID, ROOT_INO, "directory", rootTreeId, null, "" as Name);
    this.#nodes.set(FUSE_ROOT_ID, this.root);
    this.#inos.set(ROOT_INO, this.root);
  }

  /** Nodes, the root included. */
  get size(): number {
    return this.#nodes.size;
  }

  get(nodeid: number): Node | undefined {
    return this.#nodes.get(nodeid);
  }

  all(): IterableIterator<Node> {
    return this.#nodes.values();
  }

  /** The node of a row, if the kernel knows it. */
  byRow(ino: number): Node | undefined {
    return this.#rows.get(ino);
  }

  /** The ino that an untouched child has, or would have if it were looked up now. */
  childIno(parent: Node, name: Name, kind: NodeKind, oid: BaseId): number {
    const child = parent.children?.get(name);
    if (child !== undefined) return child.ino;
    return this.#freeIno(inoOf(parent.ino, name, kind === "directory" ? "" : plainOid(oid)));
  }

  /** An untouched child, made if the kernel does not know it yet. To be counted by `count`. */
  child(parent: Node, name: Name, kind: NodeKind, oid: BaseId): Node {
    const known = parent.children?.get(name);
    if (known !== undefined) return known;
    const ino = this.childIno(parent, name, kind, oid);
    const child = new Node(this.#nextNodeid++, ino, kind, oid, parent, name);
    this.#nodes.set(child.nodeid, child);
    this.#inos.set(ino, child);
    this.#link(child, parent, name);
    return child;
  }

  /** The node of a row under one of its names. To be counted by `count`. */
  childOfRow(parent: Node, name: Name, inode: Inode): Node {
    const known = this.#rows.get(inode.ino);
    if (known === undefined) {
      const node = this.#newOfRow(inode, parent, name);
      this.#link(node, parent, name);
      return node;
    }
    if (parent.children?.get(name) !== known) this.addName(known, parent, name);
    return known;
  }

  /** A file that only this one lookup sees: the next one of the same name makes another. */
  passing(parent: Node, name: Name, kind: NodeKind): Node {
    const ino = this.#freeIno(inoOf(parent.ino, name, ""));
    const node = new Node(this.#nextNodeid++, ino, kind, NO_OID, parent, name);
    this.#nodes.set(node.nodeid, node);
    this.#inos.set(ino, node);
    return node;
  }

  /** A file that has no name yet (O_TMPFILE). To be counted by `count`. */
  nameless(inode: Inode): Node {
    const node = this.#newOfRow(inode, null, "" as Name);
    node.unlinked = true;
    return node;
  }

  #newOfRow(inode: Inode, parent: Node | null, name: Name): Node {
    const node = new Node(this.#nextNodeid++, inode.ino, "file", NO_OID, parent, name);
    node.setInode(inode);
    this.#nodes.set(node.nodeid, node);
    this.#rows.set(inode.ino, node);
    return node;
  }

  /** The node has a row from now on, or another one. */
  setInode(node: Node, inode: Inode): void {
    if (node.inode === null) {
      if (this.#inos.get(node.ino) === node) this.#inos.delete(node.ino);
      node.ino = inode.ino;
      this.#rows.set(inode.ino, node);
    }
    node.setInode(inode);
  }

  /** The reply that tells the kernel of it is about to be written. */
  count(node: Node): Node {
    node.lookupCount++;
    return node;
  }

  /** Another name of a file. */
  addName(node: Node, parent: Node, name: Name): void {
    if (node.parent === null) {
      node.parent = parent;
      node.name = name;
      node.unlinked = false;
    } else (node.others ??= []).push({ parent, name });
    this.#link(node, parent, name);
  }

  /** One name is gone. `last`: there is no other, known to the kernel or not. */
  removeName(node: Node, parent: Node, name: Name, { last }: { readonly last: boolean }): void {
    if (parent.children?.get(name) === node) parent.children.delete(name);
    if (node.parent === parent && node.name === name) {
      const other = node.others?.pop();
      node.parent = other?.parent ?? null;
      node.name = other?.name ?? name;
    } else if (node.others !== null) {
      node.others = node.others.filter((place) => place.parent !== parent || place.name !== name);
    }
    if (last) {
      node.parent = null;
      node.unlinked = true;
    }
    this.#dropIfUnused(parent);
  }

  /** Unknown nodes are left alone: the root is forgotten at unmount too. Throws Bug. */
  forget(nodeid: number, nlookup: number): void {
    const node = this.#nodes.get(nodeid);
    if (node === undefined || node === this.root) return;
    if (nlookup > node.lookupCount) throw new Bug(`node ${nodeid} forgotten more than looked up`);
    node.lookupCount -= nlookup;
    this.#dropIfUnused(node);
  }

  /** It was only needed for a moment, unless the kernel knows it. */
  release(node: Node): void {
    this.#dropIfUnused(node);
  }

  #link(node: Node, parent: Node, name: Name): void {
    parent.children ??= new Map();
    parent.children.set(name, node);
  }

  #dropIfUnused(node: Node): void {
    let unused: Node | null = node;
    while (unused !== null && unused !== this.root) {
      if (unused.lookupCount > 0 || (unused.children?.size ?? 0) > 0) return;
      if (!this.#nodes.delete(unused.nodeid)) return;
      if (unused.inode === null) {
        if (this.#inos.get(unused.ino) === unused) this.#inos.delete(unused.ino);
      } else this.#rows.delete(unused.ino);
      const parent: Node | null = unused.parent;
      for (const place of unused.others ?? []) this.#unlink(unused, place.parent, place.name);
      if (parent !== null) this.#unlink(unused, parent, unused.name);
      this.#onDrop(unused);
      for (const place of unused.others ?? []) this.#dropIfUnused(place.parent);
      unused = parent;
    }
  }

  #unlink(node: Node, parent: Node, name: Name): void {
    if (parent.children?.get(name) === node) parent.children.delete(name);
  }

  /** The first ino from `wanted` on that no untouched node has. */
  #freeIno(wanted: number): number {
    let ino = wanted;
    while (this.#inos.has(ino)) ino++;
    return ino;
  }
}
