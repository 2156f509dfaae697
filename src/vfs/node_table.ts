/**
 * What the kernel holds of us: nodes with their lookup counts.
 *
 * Invariants
 *  1. A nodeid is never reused.
 *  2. A node exists while the kernel counts it or a child of it exists; the root always.
 *  3. Two nodes that exist at the same time differ in ino.
 */

import { Bug } from "../failure.ts";
import { FUSE_ROOT_ID } from "../fuse/abi.ts";
import type { EntryKind } from "../git/tree.ts";
import type { Oid } from "../git/oid.ts";
import type { Name } from "../path.ts";
import { inoOf, ROOT_INO } from "./ino.ts";

/** A tree entry's kind, or the synthesized `.git` at the root. */
export type NodeKind = EntryKind | "gitfile";

export class Node {
  lookupCount = 0;
  children: Map<Name, Node> | null = null;

  constructor(
    readonly nodeid: number,
    readonly ino: number,
    readonly kind: NodeKind,
    /** Tree or blob; for a gitlink the commit, for the gitfile empty. */
    readonly oid: Oid,
    readonly parent: Node | null,
    readonly name: Name,
  ) {}

  /** Trees from the root to this directory. */
  treeOids(): Oid[] {
    const oids: Oid[] = [this.oid];
    for (let node = this.parent; node !== null; node = node.parent) oids.push(node.oid);
    return oids.reverse();
  }
}

export class NodeTable {
  readonly root: Node;
  readonly #nodes = new Map<number, Node>();
  readonly #inos = new Map<number, Node>();
  #nextNodeid = FUSE_ROOT_ID + 1;

  constructor(rootTreeOid: Oid) {
    this.root = new Node(FUSE_ROOT_ID, ROOT_INO, "directory", rootTreeOid, null, "" as Name);
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

  /** The ino that a child has, or would have if it were looked up now. */
  childIno(parent: Node, name: Name, kind: NodeKind, oid: Oid): number {
    const child = parent.children?.get(name);
    if (child !== undefined) return child.ino;
    return this.#freeIno(inoOf(parent.ino, name, kind === "directory" ? "" : oid));
  }

  /** The child, made if the kernel does not know it yet; counts one lookup. */
  lookup(parent: Node, name: Name, kind: NodeKind, oid: Oid): Node {
    let child = parent.children?.get(name);
    if (child === undefined) {
      const ino = this.childIno(parent, name, kind, oid);
      child = new Node(this.#nextNodeid++, ino, kind, oid, parent, name);
      this.#nodes.set(child.nodeid, child);
      this.#inos.set(ino, child);
      parent.children ??= new Map();
      parent.children.set(name, child);
    }
    child.lookupCount++;
    return child;
  }

  /** Unknown nodes are left alone: the root is forgotten at unmount too. Throws Bug. */
  forget(nodeid: number, nlookup: number): void {
    const node = this.#nodes.get(nodeid);
    if (node === undefined || node === this.root) return;
    if (nlookup > node.lookupCount) throw new Bug(`node ${nodeid} forgotten more than looked up`);
    node.lookupCount -= nlookup;
    this.#dropIfUnused(node);
  }

  #dropIfUnused(node: Node): void {
    let unused: Node | null = node;
    while (unused !== null && unused.parent !== null) {
      if (unused.lookupCount > 0 || (unused.children?.size ?? 0) > 0) return;
      this.#nodes.delete(unused.nodeid);
      this.#inos.delete(unused.ino);
      unused.parent.children?.delete(unused.name);
      unused = unused.parent;
    }
  }

  /** The first ino from `wanted` on that no node has. */
  #freeIno(wanted: number): number {
    let ino = wanted;
    while (this.#inos.has(ino)) ino++;
    return ino;
  }
}
