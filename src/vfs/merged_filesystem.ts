/**
 * What is mounted: a generation's tree with the overlay over it, and the synthesized `.git` at its
 * root. Each method is one opcode; what it does is in the module it calls.
 *
 * Cookies of READDIR survive anything: 1 after `.`, 2 after `..`, 3 after `.git` (at the root), for
 * a name of the base its rank in the tree + 4, and for a name that only exists here its sequence
 * number (overlay_entries.ts) + 2^30.
 *
 * Sizes that nobody knows are given as 0 with an attribute timeout of 0, so the kernel asks with
 * GETATTR before it needs one; that needs default_permissions (src/fuse/README.md).
 */

import {
  type AttrChanges,
  type Attributes,
  type Caller,
  type DirentSink,
  type Entry,
  type Filesystem,
  Parked,
  type StatFs,
} from "../fuse/filesystem.ts";
import type { BaseId } from "../git/base_id.ts";
import { S_IFMT } from "../overlay/inode.ts";
import type { Name } from "../path.ts";
import { setAttributes } from "./attributes.ts";
import { Contents } from "./contents.ts";
import type { Directory } from "./directory.ts";
import { answerBytes, lookupMonitor } from "./monitor_files.ts";
import { Names } from "./names.ts";
import { NO_OID, type Node } from "./node_table.ts";
import { waitKey } from "./objects.ts";
import type { MergedEntry } from "./overlay_entries.ts";
import { type DifferingFiles, Rebase } from "./rebase.ts";
import { Switch, type SwitchedTree, type SwitchRequest } from "./switch.ts";
import { GITFILE_NAME, type Merged, View, type ViewOptions } from "./view.ts";
import { Xattrs } from "./xattrs.ts";

const COOKIE_DOT = 1;
const COOKIE_DOT_DOT = 2;
const COOKIE_GITFILE = 3;
const COOKIE_BASE = 4;
const COOKIE_ADDED = 2 ** 30;

/** Most replies hold fewer: 32 KiB of at least 160 bytes each; a larger getdents(2) takes more. */
const ENTRIES_PER_QUERY = 256;

const DT_DIR = 4;

export interface MergedFilesystemOptions extends ViewOptions {
  /** Keep extended attributes; without, the kernel never asks for them. */
  readonly xattrs: boolean;
  readonly statfs: () => StatFs;
}

export class MergedFilesystem implements Filesystem {
  readonly #options: MergedFilesystemOptions;
  readonly #view: View;
  readonly #contents: Contents;
  readonly #names: Names;
  readonly #xattrs: Xattrs;
  readonly #differing: DifferingFiles = new Map();

  constructor(options: MergedFilesystemOptions) {
    this.#options = options;
    this.#view = new View(options, (node) => this.#contents.drop(node));
    this.#contents = new Contents(this.#view, options);
    this.#names = new Names(this.#view);
    this.#xattrs = new Xattrs(this.#view);
  }

  get hasXattrs(): boolean {
    return this.#options.xattrs;
  }

  /** Nodes the kernel holds, the root included. */
  get nodeCount(): number {
    return this.#view.nodes.size;
  }

  /** So often git's file monitor was asked. */
  get monitorQueries(): number {
    return this.#view.monitor.queries;
  }

  /** The session is over: what was unlinked but open, or half copied, is nobody's now. */
  close(): void {
    this.#contents.close();
    this.#view.close();
  }

  /** What `ViewOptions.settle` has asked for is done, or takes long. SETTLE_KEY is to be woken. */
  settled(isThrough: boolean): void {
    this.#view.monitor.settling.settled(isThrough);
  }

  /** Puts another tree beneath, by and by, without changing what shows. */
  rebase(treeId: BaseId): Rebase {
    return new Rebase(this.#view, treeId, this.#differing);
  }

  /** Another commit comes, in what shows too. Throws SwitchRefused; FsError. */
  switchTo(request: SwitchRequest): SwitchedTree {
    return new Switch(this.#view, (node) => this.#contents.isCopying(node)).run(request);
  }

  lookup(parentNodeid: number, name: Name): Entry {
    const view = this.#view;
    const parent = view.directoryNode(parentNodeid);
    if (name === GITFILE_NAME && parent === view.nodes.root) {
      return view.entry(this.#gitfile(parent));
    }
    const synthetic = lookupMonitor(view, parent, name);
    if (synthetic !== null) return synthetic;
    const entry = view.find(parent, name);
    if (entry === undefined) return view.negative();
    return view.entry(view.childOf(parent, name, entry));
  }

  getattr(nodeid: number): Attributes {
    const view = this.#view;
    const node = view.node(nodeid);
    if (node.isDirectory) view.merged(node);
    else if (node.kind === "answer") answerBytes(view, node);
    else if (node.showsBlob && view.size(node) === undefined) {
      throw new Parked(waitKey("size", node.oid));
    }
    return view.attributes(node);
  }

  setattr(nodeid: number, changes: AttrChanges): Attributes {
    const node = this.#view.node(nodeid);
    setAttributes(this.#view, this.#contents, node, changes);
    return this.#view.attributes(node);
  }

  readlink(nodeid: number): Uint8Array<ArrayBuffer> {
    return this.#contents.readlink(this.#view.node(nodeid));
  }

  read(nodeid: number, offset: number, into: Uint8Array<ArrayBuffer>): number {
    return this.#contents.read(this.#view.node(nodeid), offset, into);
  }

  write(
    nodeid: number,
    offset: number,
    bytes: Uint8Array<ArrayBuffer>,
    killSuidGidFor: number | null,
  ): number {
    return this.#contents.write(this.#view.node(nodeid), offset, bytes, killSuidGidFor);
  }

  fallocate(nodeid: number, mode: number, offset: number, lengthBytes: number): void {
    this.#contents.fallocate(this.#view.node(nodeid), mode, offset, lengthBytes);
  }

  lseek(nodeid: number, offset: number, whence: number): number {
    return this.#contents.lseek(this.#view.node(nodeid), offset, whence);
  }

  copyFileRange(
    nodeid: number,
    offset: number,
    newNodeid: number,
    newOffset: number,
    lengthBytes: number,
  ): number {
    const view = this.#view;
    const [from, to] = [view.node(nodeid), view.node(newNodeid)];
    return this.#contents.copyFileRange(from, offset, to, newOffset, lengthBytes);
  }

  fsync(nodeid: number, dataOnly: boolean): void {
    const node = this.#view.node(nodeid);
    this.#view.overlay.sync(node.hasBackingFile ? node.inode : null, { dataOnly });
  }

  fsyncdir(_nodeid: number, dataOnly: boolean): void {
    this.#view.overlay.sync(null, { dataOnly });
  }

  mknod(parentNodeid: number, name: Name, mode: number, rdev: number, caller: Caller): Entry {
    return this.#names.mknod(parentNodeid, name, mode, rdev, caller);
  }

  mkdir(parentNodeid: number, name: Name, mode: number, caller: Caller): Entry {
    return this.#names.mkdir(parentNodeid, name, mode, caller);
  }

  symlink(
    parentNodeid: number,
    name: Name,
    target: Uint8Array<ArrayBuffer>,
    caller: Caller,
  ): Entry {
    return this.#names.symlink(parentNodeid, name, target, caller);
  }

  tmpfile(parentNodeid: number, mode: number, caller: Caller): Entry {
    return this.#names.tmpfile(parentNodeid, mode, caller);
  }

  link(nodeid: number, newParentNodeid: number, newName: Name): Entry {
    return this.#names.link(nodeid, newParentNodeid, newName);
  }

  unlink(parentNodeid: number, name: Name): void {
    this.#names.unlink(parentNodeid, name);
  }

  rmdir(parentNodeid: number, name: Name): void {
    this.#names.rmdir(parentNodeid, name);
  }

  rename(
    parentNodeid: number,
    name: Name,
    newParentNodeid: number,
    newName: Name,
    flags: number,
  ): void {
    this.#names.rename(parentNodeid, name, newParentNodeid, newName, flags);
  }

  getxattr(nodeid: number, name: Name): Uint8Array<ArrayBuffer> {
    return this.#xattrs.get(this.#view.node(nodeid), name);
  }

  listxattr(nodeid: number): Uint8Array<ArrayBuffer> {
    return this.#xattrs.list(this.#view.node(nodeid));
  }

  setxattr(nodeid: number, name: Name, value: Uint8Array<ArrayBuffer>, flags: number): void {
    this.#xattrs.set(this.#view.node(nodeid), name, value, flags);
  }

  removexattr(nodeid: number, name: Name): void {
    this.#xattrs.remove(this.#view.node(nodeid), name);
  }

  readdir(nodeid: number, offset: number, sink: DirentSink): void {
    const { nodes, modes } = this.#view;
    this.#list(nodeid, offset, {
      addDot: (name, ino, cookie) => sink.add(name, ino, DT_DIR, cookie),
      add(parent, name, entry, cookie) {
        if (entry === "gitfile") {
          const ino = nodes.childIno(parent, name, "gitfile", NO_OID);
          return sink.add(name, ino, typeOf(modes.gitfile), cookie);
        }
        if (entry.from === "overlay") {
          return sink.add(name, entry.ino, typeOf(entry.mode), cookie);
        }
        const { kind, oid } = entry.entry;
        const ino = nodes.childIno(parent, name, kind, oid);
        return sink.add(name, ino, typeOf(modes[kind]), cookie);
      },
    });
  }

  readdirplus(nodeid: number, offset: number, sink: DirentSink): void {
    const view = this.#view;
    let sizes: ReadonlyMap<BaseId, number> = new Map();
    let until = 0;
    this.#list(nodeid, offset, {
      addDot: (name, ino, cookie) => sink.addPlus(name, ino, DT_DIR, cookie, null),
      add: (parent, name, entry, cookie, base) => {
        // Asked first: a lookup that is counted must be in the reply.
        if (!sink.fits(name)) return false;
        if (base !== null && cookie >= until && cookie < COOKIE_ADDED) {
          sizes = this.#sizesFrom(base, cookie - COOKIE_BASE);
          until = cookie + ENTRIES_PER_QUERY;
        }
        const node = entry === "gitfile"
          ? this.#gitfile(parent)
          : view.childOf(parent, name, entry);
        const reply = view.entry(node, (blobId) => sizes.get(blobId) ?? view.sizeAtHand(blobId));
        return sink.addPlus(name, node.ino, typeOf(reply.attr.mode), cookie, reply);
      },
    });
  }

  statfs(): StatFs {
    return this.#options.statfs();
  }

  forget(nodeid: number, nlookup: number): void {
    const { nodes, objects } = this.#view;
    const node = nodes.get(nodeid);
    nodes.forget(nodeid, nlookup);
    if (node !== undefined && node.showsBlob && node.lookupCount === 0) objects.release(node.oid);
  }

  #gitfile(root: Node): Node {
    return this.#view.nodes.child(root, GITFILE_NAME, "gitfile", NO_OID);
  }

  #list(nodeid: number, offset: number, out: Listing): void {
    const node = this.#view.directoryNode(nodeid);
    const merged = this.#view.merged(node);
    const parentIno = (node.parent ?? node).ino;
    if (offset < COOKIE_DOT && !out.addDot("." as Name, node.ino, COOKIE_DOT)) return;
    if (offset < COOKIE_DOT_DOT && !out.addDot(".." as Name, parentIno, COOKIE_DOT_DOT)) return;
    if (offset < COOKIE_GITFILE && node === this.#view.nodes.root) {
      if (!out.add(node, GITFILE_NAME, "gitfile", COOKIE_GITFILE, null)) return;
    }
    if (offset < COOKIE_ADDED && !listBase(node, merged, offset, out)) return;
    if (merged.overlay === null) return;
    const from = Math.max(0, offset - COOKIE_ADDED + 1);
    for (const { name, entry } of merged.overlay.addedFrom(from)) {
      const { ino, mode, sequence } = entry;
      if (ino === null) continue;
      const shown = { from: "overlay", ino, mode } as const;
      if (!out.add(node, name, shown, COOKIE_ADDED + sequence, null)) return;
    }
  }

  /** Sizes of the next entries from a rank on: one query, not one for each. */
  #sizesFrom(base: Directory, rank: number): ReadonlyMap<BaseId, number> {
    const entries = base.entries.slice(rank, rank + ENTRIES_PER_QUERY);
    const blobs = entries.filter(({ kind }) => kind !== "directory" && kind !== "gitlink");
    return this.#view.objects.sizesAtHand(blobs.map(({ oid }) => oid));
  }
}

/** Takes what a directory shows; false: the reply is full. */
interface Listing {
  /** The kernel takes no entry for `.` and `..` (fuse_direntplus_link). */
  addDot(name: Name, ino: number, cookie: number): boolean;
  add(
    parent: Node,
    name: Name,
    entry: MergedEntry | "gitfile",
    cookie: number,
    /** The base that the cookie is a rank of. */
    base: Directory | null,
  ): boolean;
}

/** Names of the base by rank, as they show. False: the reply is full. */
function listBase(node: Node, { base, overlay }: Merged, offset: number, out: Listing): boolean {
  const ranked = overlay === null ? base : overlay.rankedOf(base);
  if (ranked === null) return true;
  const { entries } = ranked;
  for (let rank = Math.max(0, offset - COOKIE_BASE + 1); rank < entries.length; rank++) {
    const entry = entries[rank] as Directory["entries"][number];
    const over = overlay?.get(entry.name);
    if (over === undefined) {
      // It was hidden when a base without it came beneath.
      if (ranked !== base && base?.get(entry.name) === undefined) continue;
    } else if (over.ino === null) continue;
    const shown: MergedEntry = over === undefined
      ? { from: "base", entry }
      : { from: "overlay", ino: over.ino as number, mode: over.mode };
    if (!out.add(node, entry.name, shown, COOKIE_BASE + rank, ranked)) return false;
  }
  return true;
}

/** d_type of a record (IFTODT in glibc's dirent.h). */
function typeOf(mode: number): number {
  return (mode & S_IFMT) >>> 12;
}
