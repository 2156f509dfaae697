/**
 * What a file system behind the protocol has to offer. Methods are the opcodes in lower case. They
 * are synchronous: a method returns its reply, throws FsError, or returns a Parked when it has
 * asked somebody for what it lacks; it is called again with the same arguments when that arrives.
 */

import type { Name } from "../path.ts";

/** `key` is woken when what is missing arrives, or has failed. */
export class Parked {
  constructor(readonly key: string) {}
}

/** Times are whole seconds since 1970. */
export interface Attr {
  ino: number;
  sizeBytes: number;
  timeSeconds: number;
  /** Kind and permissions, as st_mode. */
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
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
  lookup(parentNodeid: number, name: Name): Entry | Parked;
  /** stat, and before open, access, mmap and append where attributes have run out. */
  getattr(nodeid: number): Attributes | Parked;
  readlink(nodeid: number): Uint8Array<ArrayBuffer> | Parked;
  /** read(2), mmap, exec, sendfile. Fills `into`; fewer bytes only at the end of the file. */
  read(nodeid: number, offset: number, into: Uint8Array<ArrayBuffer>): number | Parked;
  readdir(nodeid: number, offset: number, sink: DirentSink): Parked | void;
  readdirplus(nodeid: number, offset: number, sink: DirentSink): Parked | void;
  statfs(): StatFs;
  /** The kernel dropped `nlookup` of its references. */
  forget(nodeid: number, nlookup: number): void;
}
