/** A file system whose answers a test writes down; what was called is kept. */

import { ERRNO, FsError } from "../../src/errno.ts";
import {
  type Attr,
  type Entry,
  type Filesystem,
  newAttr,
  Parked,
} from "../../src/fuse/filesystem.ts";
import { byteString } from "../../src/path.ts";

type Method = Exclude<keyof Filesystem, "hasXattrs">;
type Arguments<M extends Method> = Parameters<Filesystem[M]>;
type Answer<M extends Method> = ReturnType<Filesystem[M]>;

export type Script = { [Member in keyof Filesystem]?: Filesystem[Member] };

/** Sentinels: every field another value, so that swapped fields show. */
export const ATTR: Attr = {
  ino: 0x1fedcba9876543,
  sizeBytes: 0x100000003,
  blocks: 0x200000005,
  atimeSeconds: 0x123456789,
  atimeNanoseconds: 999_999_999,
  mtimeSeconds: -1,
  mtimeNanoseconds: 0x0badcafe,
  ctimeSeconds: -0x1ffffffff,
  ctimeNanoseconds: 1,
  mode: 0o100644,
  nlink: 0xdeadbeef,
  uid: 0xcafe0001,
  gid: 0xcafe0002,
  rdev: 0xcafe0003,
};

/** For where the values do not matter: all 0. */
export const NO_ATTR: Attr = newAttr();

export const ENTRY: Entry = {
  nodeid: 0x11223344556677,
  entryTimeoutMs: 86_400_250,
  attrTimeoutMs: 1500,
  attr: ATTR,
};

/** Of an entry or of attributes that are asked for again at once. */
export const ATTRIBUTES = { attr: NO_ATTR, attrTimeoutMs: 0 };

const newEntry = () => ({ ...ATTRIBUTES, nodeid: 2, entryTimeoutMs: 0 });

/** Everything that may park is done, whatever was asked; entries are node 2. */
export const DONE = {
  lookup: newEntry,
  getattr: () => ATTRIBUTES,
  readlink: () => new Uint8Array(1),
  read: () => 0,
  readdir: () => {},
  readdirplus: () => {},
  lseek: () => 0,
  setattr: () => ATTRIBUTES,
  mknod: newEntry,
  mkdir: newEntry,
  symlink: newEntry,
  link: newEntry,
  tmpfile: newEntry,
  unlink: () => {},
  rmdir: () => {},
  rename: () => {},
  write: (_nodeid: number, _offset: number, bytes: Uint8Array) => bytes.length,
  fallocate: () => {},
  copyFileRange: () => 0,
  fsync: () => {},
  fsyncdir: () => {},
  getxattr: () => new Uint8Array(1),
  listxattr: () => new Uint8Array(1),
  setxattr: () => {},
  removexattr: () => {},
} satisfies Script;

/** Everything that may park waits for `key`. */
export function parking(key: string): Script {
  const wait = () => {
    throw new Parked(key);
  };
  return Object.fromEntries(Object.keys(DONE).map((method) => [method, wait]));
}

/** One argument as kept: bytes as a byte string. */
export type Seen = number | string | boolean | object | null;

export class FakeFilesystem implements Filesystem {
  /** `[method, ...arguments]`; of READ the room instead of the buffer, of listings no sink. */
  readonly calls: (readonly [string, ...Seen[]])[] = [];

  constructor(readonly script: Script = {}) {}

  callsOf(method: Method): (readonly Seen[])[] {
    return this.calls.filter(([name]) => name === method).map(([, ...rest]) => rest);
  }

  #call<M extends Method>(
    method: M,
    given: Arguments<M>,
    seen: readonly Seen[] = given,
  ): Answer<M> {
    const kept = seen.map((value) => value instanceof Uint8Array ? byteString(value) : value);
    this.calls.push([method, ...kept]);
    const scripted = this.script[method] as ((...given: Arguments<M>) => Answer<M>) | undefined;
    if (scripted === undefined) throw new FsError(ERRNO.ENOENT, `${method} is not scripted`);
    return scripted(...given);
  }

  get hasXattrs(): boolean {
    return this.script.hasXattrs ?? false;
  }

  read(...[nodeid, offset, into]: Arguments<"read">) {
    return this.#call("read", [nodeid, offset, into], [nodeid, offset, into.length]);
  }

  readdir(...[nodeid, offset, sink]: Arguments<"readdir">) {
    return this.#call("readdir", [nodeid, offset, sink], [nodeid, offset]);
  }

  readdirplus(...[nodeid, offset, sink]: Arguments<"readdirplus">) {
    return this.#call("readdirplus", [nodeid, offset, sink], [nodeid, offset]);
  }

  forget(nodeid: number, nlookup: number): void {
    this.calls.push(["forget", nodeid, nlookup]);
    this.script.forget?.(nodeid, nlookup);
  }

  lookup(...given: Arguments<"lookup">) {
    return this.#call("lookup", given);
  }

  getattr(...given: Arguments<"getattr">) {
    return this.#call("getattr", given);
  }

  readlink(...given: Arguments<"readlink">) {
    return this.#call("readlink", given);
  }

  statfs(...given: Arguments<"statfs">) {
    return this.#call("statfs", given);
  }

  lseek(...given: Arguments<"lseek">) {
    return this.#call("lseek", given);
  }

  setattr(...given: Arguments<"setattr">) {
    return this.#call("setattr", given);
  }

  mknod(...given: Arguments<"mknod">) {
    return this.#call("mknod", given);
  }

  mkdir(...given: Arguments<"mkdir">) {
    return this.#call("mkdir", given);
  }

  symlink(...given: Arguments<"symlink">) {
    return this.#call("symlink", given);
  }

  link(...given: Arguments<"link">) {
    return this.#call("link", given);
  }

  unlink(...given: Arguments<"unlink">) {
    return this.#call("unlink", given);
  }

  rmdir(...given: Arguments<"rmdir">) {
    return this.#call("rmdir", given);
  }

  rename(...given: Arguments<"rename">) {
    return this.#call("rename", given);
  }

  tmpfile(...given: Arguments<"tmpfile">) {
    return this.#call("tmpfile", given);
  }

  write(...given: Arguments<"write">) {
    return this.#call("write", given);
  }

  fallocate(...given: Arguments<"fallocate">) {
    return this.#call("fallocate", given);
  }

  copyFileRange(...given: Arguments<"copyFileRange">) {
    return this.#call("copyFileRange", given);
  }

  fsync(...given: Arguments<"fsync">) {
    return this.#call("fsync", given);
  }

  fsyncdir(...given: Arguments<"fsyncdir">) {
    return this.#call("fsyncdir", given);
  }

  getxattr(...given: Arguments<"getxattr">) {
    return this.#call("getxattr", given);
  }

  listxattr(...given: Arguments<"listxattr">) {
    return this.#call("listxattr", given);
  }

  setxattr(...given: Arguments<"setxattr">) {
    return this.#call("setxattr", given);
  }

  removexattr(...given: Arguments<"removexattr">) {
    return this.#call("removexattr", given);
  }
}
