/**
 * The mounted view: a generation's tree, read-only, and the synthesized `.git` at its root.
 *
 * Cookies of READDIR survive anything: 1 after `.`, 2 after `..`, 3 after `.git` (at the root), and
 * for an entry of the base its rank in the tree + 4.
 *
 * Sizes that nobody knows are given as 0 with an attribute timeout of 0, so the kernel asks with
 * GETATTR before it needs one; that needs default_permissions (src/fuse/README.md).
 */

import { ERRNO, FsError } from "../errno.ts";
import {
  type Attr,
  type Attributes,
  type DirentSink,
  type Entry,
  type Filesystem,
  Parked,
  type StatFs,
} from "../fuse/filesystem.ts";
import type { Oid } from "../git/oid.ts";
import { type Name, NAME_MAX_BYTES } from "../path.ts";
import type { Directory } from "./directory.ts";
import { type Node, type NodeKind, NodeTable } from "./node_table.ts";
import { type Objects, waitKey } from "./objects.ts";

/** Nothing changes under a node, so the kernel may keep what it knows for a day. */
const TTL_MS = 86_400_000;
/** The kernel's READLINK takes one byte less than a page (fuse_readlink_page). */
const LINK_MAX_BYTES = 4095;

/** Of st_blocks. */
const BLOCK_BYTES = 512;

const SEEK_DATA = 3;

const GITFILE_NAME = ".git" as Name;
const NO_OID = "" as Oid;

const COOKIE_DOT = 1;
const COOKIE_DOT_DOT = 2;
const COOKIE_GITFILE = 3;
const COOKIE_ENTRIES = 4;

/** Most replies hold fewer: 32 KiB of at least 160 bytes each; a larger getdents(2) takes more. */
const ENTRIES_PER_QUERY = 256;

const DT_DIR = 4;
const DT_REG = 8;
const DT_LNK = 10;

const MODES: Readonly<Record<NodeKind, number>> = {
  file: 0o100644,
  executable: 0o100755,
  symlink: 0o120777,
  directory: 0o040755,
  gitlink: 0o040755,
  gitfile: 0o100644,
};

const TYPES: Readonly<Record<NodeKind, number>> = {
  file: DT_REG,
  executable: DT_REG,
  symlink: DT_LNK,
  directory: DT_DIR,
  gitlink: DT_DIR,
  gitfile: DT_REG,
};

export interface BaseFilesystemOptions {
  readonly objects: Objects;
  readonly rootTreeOid: Oid;
  /** mtime, ctime and atime of everything, seconds since 1970. */
  readonly timeSeconds: number;
  readonly uid: number;
  readonly gid: number;
  /** Content of `.git`. */
  readonly gitfile: Uint8Array<ArrayBuffer>;
  readonly statfs: () => StatFs;
}

export class BaseFilesystem implements Filesystem {
  readonly #options: BaseFilesystemOptions;
  readonly #objects: Objects;
  readonly #nodes: NodeTable;

  constructor(options: BaseFilesystemOptions) {
    this.#options = options;
    this.#objects = options.objects;
    this.#nodes = new NodeTable(options.rootTreeOid);
  }

  /** Nodes the kernel holds, the root included. */
  get nodeCount(): number {
    return this.#nodes.size;
  }

  lookup(parentNodeid: number, name: Name): Entry | Parked {
    if (name.length > NAME_MAX_BYTES) throw new FsError(ERRNO.ENAMETOOLONG);
    const parent = this.#directoryNode(parentNodeid);
    if (parent === this.#nodes.root && name === GITFILE_NAME) {
      return this.#entry(this.#nodes.lookup(parent, name, "gitfile", NO_OID));
    }
    const directory = this.#directory(parent);
    if (directory instanceof Parked) return directory;
    const found = directory?.get(name);
    if (found === undefined) return this.#negative();
    return this.#entry(this.#nodes.lookup(parent, name, found.kind, found.oid));
  }

  getattr(nodeid: number): Attributes | Parked {
    const node = this.#node(nodeid);
    if (node.kind === "directory") {
      if (this.#objects.directory(node.oid) === undefined) return parked("tree", node.oid);
    } else if (isBlob(node.kind)) {
      const size = this.#objects.size(node.oid, () => treeOidsOf(node));
      if (size === undefined) return parked("size", node.oid);
    }
    return this.#attributes(node);
  }

  readlink(nodeid: number): Uint8Array<ArrayBuffer> | Parked {
    const node = this.#node(nodeid);
    if (node.kind !== "symlink") throw new FsError(ERRNO.EINVAL);
    const target = new Uint8Array(LINK_MAX_BYTES + 1);
    const count = this.#objects.read(node.oid, 0, target, () => treeOidsOf(node));
    if (count === undefined) return parked("content", node.oid);
    if (count > LINK_MAX_BYTES) throw new FsError(ERRNO.ENAMETOOLONG);
    return target.subarray(0, count);
  }

  read(nodeid: number, offset: number, into: Uint8Array<ArrayBuffer>): number | Parked {
    const node = this.#node(nodeid);
    if (node.kind === "gitfile") {
      const bytes = this.#options.gitfile.subarray(offset, offset + into.length);
      into.set(bytes);
      return bytes.length;
    }
    if (!isBlob(node.kind)) throw new FsError(ERRNO.EISDIR);
    const count = this.#objects.read(node.oid, offset, into, () => treeOidsOf(node));
    return count ?? parked("content", node.oid);
  }

  readdir(nodeid: number, offset: number, sink: DirentSink): Parked | void {
    const addDot: AddDot = (name, ino, cookie) => sink.add(name, ino, DT_DIR, cookie);
    return this.#list(nodeid, offset, addDot, (parent, name, kind, oid, cookie) => {
      const ino = this.#nodes.childIno(parent, name, kind, oid);
      return sink.add(name, ino, TYPES[kind], cookie);
    });
  }

  readdirplus(nodeid: number, offset: number, sink: DirentSink): Parked | void {
    const addDot: AddDot = (name, ino, cookie) => sink.addPlus(name, ino, DT_DIR, cookie, null);
    let sizes: ReadonlyMap<Oid, number> = new Map();
    let until = 0;
    return this.#list(nodeid, offset, addDot, (parent, name, kind, oid, cookie) => {
      // Asked first: a lookup that is counted must be in the reply.
      if (!sink.fits(name)) return false;
      if (cookie >= until) {
        sizes = this.#sizesFrom(nodeid, cookie - 1);
        until = cookie + ENTRIES_PER_QUERY;
      }
      const node = this.#nodes.lookup(parent, name, kind, oid);
      const entry = this.#entry(node, (blobOid) => sizes.get(blobOid));
      return sink.addPlus(name, node.ino, TYPES[kind], cookie, entry);
    });
  }

  statfs(): StatFs {
    return this.#options.statfs();
  }

  forget(nodeid: number, nlookup: number): void {
    const node = this.#nodes.get(nodeid);
    this.#nodes.forget(nodeid, nlookup);
    if (node !== undefined && isBlob(node.kind) && node.lookupCount === 0) {
      this.#objects.release(node.oid);
    }
  }

  /** All is data. */
  lseek(nodeid: number, offset: number, whence: number): number | Parked {
    const attributes = this.getattr(nodeid);
    if (attributes instanceof Parked) return attributes;
    const { sizeBytes } = attributes.attr;
    if (offset >= sizeBytes) throw new FsError(ERRNO.ENXIO);
    return whence === SEEK_DATA ? offset : sizeBytes;
  }

  /** Nothing is ever dirty. */
  fsync(): void {}
  fsyncdir(): void {}

  readonly hasXattrs = false;

  // The kernel itself refuses changes (MS_RDONLY), until `mount -o remount,rw`.
  readonly setattr = readOnly;
  readonly mknod = readOnly;
  readonly mkdir = readOnly;
  readonly symlink = readOnly;
  readonly link = readOnly;
  readonly unlink = readOnly;
  readonly rmdir = readOnly;
  readonly rename = readOnly;
  readonly tmpfile = readOnly;
  readonly write = readOnly;
  readonly fallocate = readOnly;
  readonly copyFileRange = readOnly;
  readonly getxattr = readOnly;
  readonly listxattr = readOnly;
  readonly setxattr = readOnly;
  readonly removexattr = readOnly;

  #list(
    nodeid: number,
    offset: number,
    addDot: AddDot,
    add: (parent: Node, name: Name, kind: NodeKind, oid: Oid, cookie: number) => boolean,
  ): Parked | void {
    const node = this.#directoryNode(nodeid);
    const directory = this.#directory(node);
    if (directory instanceof Parked) return directory;
    const entries = directory?.entries ?? [];
    const parentIno = (node.parent ?? node).ino;
    if (offset < COOKIE_DOT && !addDot("." as Name, node.ino, COOKIE_DOT)) return;
    if (offset < COOKIE_DOT_DOT && !addDot(".." as Name, parentIno, COOKIE_DOT_DOT)) return;
    if (offset < COOKIE_GITFILE && node === this.#nodes.root) {
      if (!add(node, GITFILE_NAME, "gitfile", NO_OID, COOKIE_GITFILE)) return;
    }
    for (let rank = Math.max(0, offset - COOKIE_ENTRIES + 1); rank < entries.length; rank++) {
      const { name, kind, oid } = entries[rank] as Directory["entries"][number];
      if (!add(node, name, kind, oid, COOKIE_ENTRIES + rank)) return;
    }
  }

  /** Sizes of the next entries from `offset` on: one query, not one for each. */
  #sizesFrom(nodeid: number, offset: number): ReadonlyMap<Oid, number> {
    const directory = this.#directory(this.#directoryNode(nodeid));
    if (directory instanceof Parked || directory === null) return new Map();
    const from = Math.max(0, offset - COOKIE_ENTRIES + 1);
    const entries = directory.entries.slice(from, from + ENTRIES_PER_QUERY);
    const blobs = entries.filter(({ kind }) => isBlob(kind));
    return this.#objects.sizesAtHand(blobs.map(({ oid }) => oid));
  }

  #node(nodeid: number): Node {
    const node = this.#nodes.get(nodeid);
    // The kernel never asks for what it forgot, so this is a message that lies.
    if (node === undefined) throw new FsError(ERRNO.ENOENT);
    return node;
  }

  #directoryNode(nodeid: number): Node {
    const node = this.#node(nodeid);
    if (node.kind !== "directory" && node.kind !== "gitlink") throw new FsError(ERRNO.ENOTDIR);
    return node;
  }

  /** Null: a gitlink, which is an empty directory. */
  #directory(node: Node): Directory | Parked | null {
    if (node.kind === "gitlink") return null;
    return this.#objects.directory(node.oid) ?? parked("tree", node.oid);
  }

  #negative(): Entry {
    return {
      nodeid: 0,
      entryTimeoutMs: TTL_MS,
      attrTimeoutMs: 0,
      attr: this.#attr(0, 0, 0, 0),
    };
  }

  #entry(node: Node, sizeOf?: SizeOf): Entry {
    return { nodeid: node.nodeid, entryTimeoutMs: TTL_MS, ...this.#attributes(node, sizeOf) };
  }

  /** With what is at hand; a size or link count that is not makes the kernel ask again. */
  #attributes(
    node: Node,
    sizeOf: SizeOf = (blobOid) => this.#objects.sizeAtHand(blobOid),
  ): Attributes {
    let size = 0;
    let nlink = 1;
    let known = true;
    if (node.kind === "directory") {
      const directory = this.#objects.directoryAtHand(node.oid);
      known = directory !== undefined;
      nlink = 2 + (directory?.subdirectories ?? 0);
    } else if (node.kind === "gitlink") nlink = 2;
    else if (node.kind === "gitfile") size = this.#options.gitfile.length;
    else {
      const atHand = sizeOf(node.oid);
      known = atHand !== undefined;
      size = atHand ?? 0;
    }
    return {
      attr: this.#attr(node.ino, MODES[node.kind], nlink, size),
      attrTimeoutMs: known ? TTL_MS : 0,
    };
  }

  #attr(ino: number, mode: number, nlink: number, sizeBytes: number): Attr {
    const { timeSeconds, uid, gid } = this.#options;
    return {
      ino,
      sizeBytes,
      blocks: Math.ceil(sizeBytes / BLOCK_BYTES),
      atimeSeconds: timeSeconds,
      atimeNanoseconds: 0,
      mtimeSeconds: timeSeconds,
      mtimeNanoseconds: 0,
      ctimeSeconds: timeSeconds,
      ctimeNanoseconds: 0,
      mode,
      nlink,
      uid,
      gid,
      rdev: 0,
    };
  }
}

/** The kernel takes no entry for `.` and `..` (fuse_direntplus_link). */
type AddDot = (name: Name, ino: number, cookie: number) => boolean;

type SizeOf = (blobOid: Oid) => number | undefined;

function readOnly(): never {
  throw new FsError(ERRNO.EROFS);
}

function isBlob(kind: NodeKind): boolean {
  return kind === "file" || kind === "executable" || kind === "symlink";
}

function parked(need: "tree" | "size" | "content", oid: Oid): Parked {
  return new Parked(waitKey(need, oid));
}

/** Trees from the root to the node's directory. */
function treeOidsOf(node: Node): Oid[] {
  return node.parent?.treeOids() ?? [];
}
