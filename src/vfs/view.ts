/**
 * The merged tree as everything here sees it: nodes, what a directory shows, attributes.
 *
 * What is not here yet is asked for, and `Parked` is thrown: the operation runs again when it has
 * come. So whatever may park comes before the first change.
 */

import { ERRNO, FsError } from "../errno.ts";
import {
  type Attr,
  type Attributes,
  type Entry,
  newAttr,
  Parked,
  type Time,
} from "../fuse/filesystem.ts";
import type { BaseId } from "../git/base_id.ts";
import { CONTENT, type Inode } from "../overlay/inode.ts";
import type { Overlay } from "../overlay/overlay.ts";
import type { Name } from "../path.ts";
import type { Directory } from "./directory.ts";
import { ROOT_INO } from "./ino.ts";
import { type Answer, Monitor } from "./monitor.ts";
import { NO_OID, Node, type NodeKind, NodeTable } from "./node_table.ts";
import { type Objects, waitKey } from "./objects.ts";
import { type MergedEntry, mergedEntry, OverlayEntries } from "./overlay_entries.ts";
import type { ChangedName } from "./settling.ts";

export const GITFILE_NAME = ".git" as Name;

/** A node changes only by requests of this kernel, so it may keep what it knows for a day. */
const TTL_MS = 86_400_000;
const BLOCK_BYTES = 512;

export type BaseModes = Readonly<Record<NodeKind, number>>;

/** Of what is untouched: as who checks out with this umask would have it. */
export function baseModes(umask: number): BaseModes {
  const file = 0o100666 & ~umask;
  const executable = 0o100777 & ~umask;
  const directory = 0o040777 & ~umask;
  return {
    file,
    executable,
    symlink: 0o120777,
    directory,
    gitlink: directory,
    gitfile: file,
    monitor: 0o040555,
    answer: 0o100444,
    special: 0,
  };
}

export interface ViewOptions {
  readonly objects: Objects;
  readonly overlay: Overlay;
  readonly rootTreeId: BaseId;
  /** Times of everything untouched, seconds since 1970. */
  readonly timeSeconds: number;
  /** Owner of everything untouched. */
  readonly uid: number;
  readonly gid: number;
  /** Permission bits of group and others that what is untouched does not have. */
  readonly umask: number;
  /** Content of `.git`. */
  readonly gitfile: Uint8Array<ArrayBuffer>;
  /** The directory at the root that git's file monitor is asked in. */
  readonly syntheticDirName: Name;
  /** The kernel's cached listing of a directory is no longer right. */
  readonly invalidateListing: (nodeid: number) => void;
  /** The kernel's cached attributes of a file may be older than what it was told last. */
  readonly invalidateAttributes: (nodeid: number) => void;
  /**
   * Has the kernel finish what it was told of names in these directories, beside who asks;
   * `MergedFilesystem.settled` follows. False: it cannot.
   */
  readonly settle: (names: readonly ChangedName[]) => boolean;
  /** Wakes what parks with this key, after whoever else waits had a turn. */
  readonly wakeSoon: (key: string) => void;
}

/** What a directory consists of; null: nothing of that kind. */
export interface Merged {
  readonly base: Directory | null;
  readonly overlay: OverlayEntries | null;
}

export type SizeOf = (blobId: BaseId) => number | undefined;

export class View {
  readonly options: ViewOptions;
  readonly objects: Objects;
  readonly overlay: Overlay;
  readonly nodes: NodeTable;
  readonly modes: BaseModes;
  readonly monitor: Monitor;
  /** What files of the file monitor hold. */
  readonly answers = new Map<Node, Answer>();
  readonly #onDrop: (node: Node) => void;

  /** `onDrop`: nobody holds a node any more. */
  constructor(options: ViewOptions, onDrop: (node: Node) => void) {
    this.options = options;
    this.#onDrop = onDrop;
    this.objects = options.objects;
    this.modes = baseModes(options.umask);
    this.overlay = options.overlay;
    this.nodes = new NodeTable(options.rootTreeId, (node) => this.#dropped(node));
    this.monitor = new Monitor(this);
    const root = this.overlay.store.inode(ROOT_INO);
    if (root !== null) this.nodes.setInode(this.nodes.root, root);
  }

  /** Throws FsError: the kernel never asks for what it forgot, so this is a message that lies. */
  node(nodeid: number): Node {
    const node = this.nodes.get(nodeid);
    if (node === undefined) throw new FsError(ERRNO.ENOENT);
    return node;
  }

  directoryNode(nodeid: number): Node {
    const node = this.node(nodeid);
    if (!node.isDirectory) throw new FsError(ERRNO.ENOTDIR);
    return node;
  }

  /** Something synthetic is at this place: nobody may make, move or remove anything there. */
  isReserved(parent: Node, name: Name): boolean {
    return parent === this.nodes.root &&
      (name === GITFILE_NAME || name === this.options.syntheticDirName);
  }

  /** Base and overlay of a directory. Throws Parked. */
  merged(node: Node): Merged {
    const base = this.#base(node, (oid) => this.objects.directory(oid));
    if (base === undefined) throw new Parked(waitKey("tree", node.oid));
    return { base, overlay: this.#entries(node, base) };
  }

  /** As far as it is at hand: nothing is asked for. */
  #mergedAtHand(node: Node): Merged | undefined {
    const base = this.#base(node, (oid) => this.objects.directoryAtHand(oid));
    return base === undefined ? undefined : { base, overlay: this.#entries(node, base) };
  }

  #base(node: Node, find: (id: BaseId) => Directory | undefined): Directory | null | undefined {
    // A gitlink is an empty directory.
    if (node.kind === "gitlink" || node.oid === NO_OID) return null;
    return find(node.oid);
  }

  #entries(node: Node, base: Directory | null): OverlayEntries | null {
    if (node.inode === null) return null;
    node.entries ??= new OverlayEntries(base, this.overlay.store.dentries(node.ino));
    return node.entries;
  }

  /** What `name` shows. Throws Parked. */
  find(parent: Node, name: Name): MergedEntry | undefined {
    const { base, overlay } = this.merged(parent);
    return mergedEntry(name, base, overlay);
  }

  /** The node that an entry shows; to be counted, or let go with `nodes.release`. */
  childOf(parent: Node, name: Name, entry: MergedEntry): Node {
    if (entry.from === "base") {
      return this.nodes.child(parent, name, entry.entry.kind, entry.entry.oid);
    }
    const known = this.nodes.byRow(entry.ino);
    return this.nodes.childOfRow(parent, name, known?.inode ?? this.#row(entry.ino));
  }

  #row(ino: number): Inode {
    const inode = this.overlay.store.inode(ino);
    if (inode === null) throw new FsError(ERRNO.EIO, `inode ${ino} has no row`);
    return inode;
  }

  /** The row of an untouched node, should it get one. May write (an ino). Throws FsError. */
  rowOfUntouched(node: Node): Inode {
    const { timeSeconds, uid, gid } = this.options;
    // Two paths with one hash: it happens once in 2^52.
    const taken = this.overlay.store.inode(node.ino) !== null;
    return {
      ino: taken ? this.overlay.allocateIno() : node.ino,
      mode: this.modes[node.kind],
      uid,
      gid,
      rdev: 0,
      nlink: node.unlinked ? 0 : 1,
      atimeSeconds: timeSeconds,
      atimeNanoseconds: 0,
      mtimeSeconds: timeSeconds,
      mtimeNanoseconds: 0,
      ctimeSeconds: timeSeconds,
      ctimeNanoseconds: 0,
      content: node.showsBlob ? CONTENT.base : CONTENT.none,
      oid: node.kind === "gitlink" || node.oid === NO_OID ? null : node.oid,
      target: null,
    };
  }

  sizeAtHand(blobId: BaseId): number | undefined {
    return this.objects.sizeAtHand(blobId);
  }

  /** Size of what a node shows; undefined: asked for. */
  size(node: Node): number | undefined {
    return this.objects.size(node.oid, () => treeIdsOf(node));
  }

  negative(): Entry {
    return { nodeid: 0, entryTimeoutMs: TTL_MS, attrTimeoutMs: 0, attr: newAttr() };
  }

  /** A reply that counts one lookup. */
  entry(node: Node, sizeOf?: SizeOf, entryTimeoutMs = TTL_MS): Entry {
    this.nodes.count(node);
    let attributes: Attributes;
    try {
      attributes = this.attributes(node, sizeOf);
    } catch (error) {
      this.nodes.forget(node.nodeid, 1);
      throw error;
    }
    return { nodeid: node.nodeid, entryTimeoutMs, ...attributes };
  }

  /** With what is at hand; a size or link count that is not makes the kernel ask again. */
  attributes(
    node: Node,
    sizeOf: SizeOf = (blobId) => this.sizeAtHand(blobId),
  ): Attributes {
    const attr = newAttr();
    const { inode } = node;
    attr.ino = node.ino;
    if (inode === null) this.#putUntouched(attr, node);
    else this.#putRow(attr, inode);
    let known = true;
    if (node.isDirectory) {
      const merged = this.#mergedAtHand(node);
      known = merged !== undefined;
      const { overlay, base } = merged ?? { overlay: null, base: null };
      const subdirectories = overlay?.subdirectories ?? base?.subdirectories ?? 0;
      attr.nlink = node.unlinked ? 0 : 2 + subdirectories;
    } else if (node.showsBlob) {
      const size = sizeOf(node.oid);
      known = size !== undefined;
      setSize(attr, size ?? 0);
    } else if (node.kind === "answer") known = this.answers.get(node)?.bytes !== null;
    return { attr, attrTimeoutMs: known ? TTL_MS : 0 };
  }

  /** As `attributes` would show it. Throws FsError. */
  ctimeOf(node: Node): Time {
    if (!node.hasBackingFile) {
      const { inode } = node;
      return inode === null
        ? { seconds: this.options.timeSeconds, nanoseconds: 0 }
        : ctimeOf(inode);
    }
    const { attr } = this.attributes(node);
    return { seconds: attr.ctimeSeconds, nanoseconds: attr.ctimeNanoseconds };
  }

  #putUntouched(attr: Attr, node: Node): void {
    const { timeSeconds, uid, gid, gitfile } = this.options;
    attr.mode = this.modes[node.kind];
    attr.nlink = node.unlinked ? 0 : 1;
    attr.uid = uid;
    attr.gid = gid;
    attr.atimeSeconds = attr.mtimeSeconds = attr.ctimeSeconds = timeSeconds;
    if (node.kind === "gitfile") setSize(attr, gitfile.length);
    if (node.kind === "answer") setSize(attr, this.answers.get(node)?.bytes?.length ?? 0);
  }

  #putRow(attr: Attr, inode: Inode): void {
    attr.mode = inode.mode;
    attr.nlink = inode.nlink;
    attr.uid = inode.uid;
    attr.gid = inode.gid;
    attr.rdev = inode.rdev;
    if (inode.content === CONTENT.upper) {
      this.overlay.upper.stat(inode.ino, attr);
      const fileCtime = { seconds: attr.ctimeSeconds, nanoseconds: attr.ctimeNanoseconds };
      if (!isLater(ctimeOf(inode), fileCtime)) return;
    } else {
      attr.atimeSeconds = inode.atimeSeconds;
      attr.atimeNanoseconds = inode.atimeNanoseconds;
      attr.mtimeSeconds = inode.mtimeSeconds;
      attr.mtimeNanoseconds = inode.mtimeNanoseconds;
      if (inode.target !== null) setSize(attr, inode.target.length);
    }
    attr.ctimeSeconds = inode.ctimeSeconds;
    attr.ctimeNanoseconds = inode.ctimeNanoseconds;
  }

  /** The session is over: nobody can reach what was unlinked but open. */
  close(): void {
    for (const node of this.nodes.all()) if (node.unlinked) this.#dropped(node);
  }

  #dropped(node: Node): void {
    this.#onDrop(node);
    this.answers.delete(node);
    if (!node.hasBackingFile) return;
    if (node.unlinked) this.overlay.removeBackingFile(node.ino);
    else this.overlay.upper.release(node.ino);
  }
}

export function isLater(time: Time, than: Time): boolean {
  if (time.seconds !== than.seconds) return time.seconds > than.seconds;
  return time.nanoseconds > than.nanoseconds;
}

/** Of a row, or of what stat(2) says of a file. */
export function ctimeOf(
  { ctimeSeconds, ctimeNanoseconds }: Pick<Inode, "ctimeSeconds" | "ctimeNanoseconds">,
): Time {
  return { seconds: ctimeSeconds, nanoseconds: ctimeNanoseconds };
}

function setSize(attr: Attr, sizeBytes: number): void {
  attr.sizeBytes = sizeBytes;
  attr.blocks = Math.ceil(sizeBytes / BLOCK_BYTES);
}

/** Trees from the root to the node's directory. */
export function treeIdsOf(node: Node): BaseId[] {
  return node.parent?.treeIds() ?? [];
}
