/**
 * What a file system behind the protocol has to offer. Methods are the opcodes in lower case. They
 * are synchronous: a method returns its reply, throws FsError, or throws Parked when it has asked
 * somebody for what it lacks; it is called again with the same arguments when that arrives.
 * A method that parks has changed nothing yet: it may never be called again (EINTR, deadline).
 *
 * Names are 1 to 255 bytes, never `.` or `..`, without `/`. Whether the caller may do it has been
 * checked by the kernel (default_permissions), as far as modes, owners and sticky bits say it.
 */

import type { Name } from "../path.ts";

/** Thrown: no failure, so no Error. `key` is woken when what is missing arrives, or has failed. */
export class Parked {
  /** However long it takes: whoever wakes has a limit. */
  readonly patient: boolean;

  constructor(readonly key: string, { patient = false }: { readonly patient?: boolean } = {}) {
    this.patient = patient;
  }
}

/** Who makes the system call: the ids of the request header (fsuid, fsgid). */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
}

/** Seconds since 1970 (may be negative) and the nanoseconds after them (0..999,999,999). */
export interface Time {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** What stat shows. Times are flat, as `Time`: nothing is allocated for them. */
export interface Attr {
  ino: number;
  sizeBytes: number;
  /** Of 512 bytes. */
  blocks: number;
  atimeSeconds: number;
  atimeNanoseconds: number;
  mtimeSeconds: number;
  mtimeNanoseconds: number;
  ctimeSeconds: number;
  ctimeNanoseconds: number;
  /** Kind and permissions, as st_mode. */
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  /** Of a device: as MKNOD gave it (new_encode_dev of the kernel). */
  rdev: number;
}

/** Flags of renameat2(2) (include/uapi/linux/fs.h). */
export const RENAME = { NOREPLACE: 1, EXCHANGE: 2 } as const;

/** All 0, to be filled. */
export function newAttr(): Attr {
  return {
    ino: 0,
    sizeBytes: 0,
    blocks: 0,
    atimeSeconds: 0,
    atimeNanoseconds: 0,
    mtimeSeconds: 0,
    mtimeNanoseconds: 0,
    ctimeSeconds: 0,
    ctimeNanoseconds: 0,
    mode: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
  };
}

/**
 * What SETATTR changes; absent: left alone. "now": the server's clock. A new size changes mtime,
 * everything changes ctime; neither is said here.
 */
export interface AttrChanges {
  /** Permission bits and kind as sent. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly sizeBytes?: number;
  readonly atime?: Time | "now";
  readonly mtime?: Time | "now";
  /**
   * The caller's group, of a caller without CAP_FSETID: setuid goes, and setgid too, unless this is
   * the file's group and the group may not execute. Null: they stay. (A change of owner takes them
   * from what is no directory, whoever makes it.)
   */
  readonly killSuidGidFor: number | null;
}

export interface Attributes {
  attr: Attr;
  attrTimeoutMs: number;
}

/** nodeid 0: a negative dentry, kept for entryTimeoutMs. */
export interface Entry extends Attributes {
  nodeid: number;
  entryTimeoutMs: number;
}

/** Takes directory records until the reply is full. */
export interface DirentSink {
  /** False: no room, and this one is not in the reply. `off` is the cookie after this record. */
  add(name: Name, ino: number, type: number, off: number): boolean;
  /** READDIRPLUS: the entry beside the record; null: without (`.`, `..`). */
  addPlus(name: Name, ino: number, type: number, off: number, entry: Entry | null): boolean;
  /** Whether a record of this name fits, asked before a lookup is counted. */
  fits(name: Name): boolean;
}

export interface StatFs {
  blocks: number;
  freeBlocks: number;
  availableBlocks: number;
  files: number;
  freeFiles: number;
  blockSizeBytes: number;
  nameMaxBytes: number;
  fragmentSizeBytes: number;
}

export interface Filesystem {
  /** Path walks, stat, open. Counts one lookup, forgotten if nobody takes the reply. */
  lookup(parentNodeid: number, name: Name): Entry;
  /** stat, and before open, access, mmap and append where attributes have run out. */
  getattr(nodeid: number): Attributes;
  readlink(nodeid: number): Uint8Array<ArrayBuffer>;
  /** read(2), mmap, exec, sendfile. Fills `into`; fewer bytes only at the end of the file. */
  read(nodeid: number, offset: number, into: Uint8Array<ArrayBuffer>): number;
  readdir(nodeid: number, offset: number, sink: DirentSink): void;
  readdirplus(nodeid: number, offset: number, sink: DirentSink): void;
  statfs(): StatFs;
  /** The kernel dropped `nlookup` of its references. */
  forget(nodeid: number, nlookup: number): void;
  /** SEEK_DATA (3) and SEEK_HOLE (4) of lseek(2). ENXIO at and behind the end of the file. */
  lseek(nodeid: number, offset: number, whence: number): number;

  /** chmod, chown, truncate, utimensat, open(O_TRUNC); no changes at all before some WRITEs. */
  setattr(nodeid: number, changes: AttrChanges): Attributes;
  /** open(O_CREAT), mknod, mkfifo, bind. As every new entry here, counts one lookup as LOOKUP. */
  mknod(
    parentNodeid: number,
    name: Name,
    mode: number,
    rdev: number,
    caller: Caller,
  ): Entry;
  mkdir(parentNodeid: number, name: Name, mode: number, caller: Caller): Entry;
  /** `target` is the callee's: 1 to 4095 bytes. */
  symlink(
    parentNodeid: number,
    name: Name,
    target: Uint8Array<ArrayBuffer>,
    caller: Caller,
  ): Entry;
  link(nodeid: number, newParentNodeid: number, newName: Name): Entry;
  unlink(parentNodeid: number, name: Name): void;
  rmdir(parentNodeid: number, name: Name): void;
  /** rename, renameat2. `flags`: 0 or one of RENAME. */
  rename(
    parentNodeid: number,
    name: Name,
    newParentNodeid: number,
    newName: Name,
    flags: number,
  ): void;
  /** open(O_TMPFILE): a file in no directory, nlink 0, gone when it is forgotten unless linked. */
  tmpfile(parentNodeid: number, mode: number, caller: Caller): Entry;
  /**
   * write(2), and pages of a shared mapping. How many bytes were written: fewer than given when the
   * disk is full. They are a view that is valid during the call. killSuidGidFor: as of AttrChanges.
   */
  write(
    nodeid: number,
    offset: number,
    bytes: Uint8Array<ArrayBuffer>,
    killSuidGidFor: number | null,
  ): number;
  /** fallocate, posix_fallocate; `mode`: FALLOC_FL_* bits. */
  fallocate(nodeid: number, mode: number, offset: number, lengthBytes: number): void;
  /** copy_file_range between two files of this mount: how much was copied, at most lengthBytes. */
  copyFileRange(
    nodeid: number,
    offset: number,
    newNodeid: number,
    newOffset: number,
    lengthBytes: number,
  ): number;
  /** fsync, fdatasync (`dataOnly`), msync(MS_SYNC), writes to a file with O_SYNC. */
  fsync(nodeid: number, dataOnly: boolean): void;
  /** fsync of a directory: its names are durable. */
  fsyncdir(nodeid: number, dataOnly: boolean): void;

  /** False: the four below are never called, and the kernel stops asking for the mount's life. */
  readonly hasXattrs: boolean;
  /** The whole value, whatever the caller has room for. ENODATA: there is none. */
  getxattr(nodeid: number, name: Name): Uint8Array<ArrayBuffer>;
  /** All names, each with a NUL behind it. */
  listxattr(nodeid: number): Uint8Array<ArrayBuffer>;
  /** `value` is the callee's; `flags`: 0, XATTR_CREATE (1) or XATTR_REPLACE (2). */
  setxattr(
    nodeid: number,
    name: Name,
    value: Uint8Array<ArrayBuffer>,
    flags: number,
  ): void;
  removexattr(nodeid: number, name: Name): void;
}
