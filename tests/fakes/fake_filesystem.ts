/** A file system whose answers a test writes down; what was called is kept. */

import { ERRNO, FsError } from "../../src/errno.ts";
import type {
  Attr,
  Attributes,
  DirentSink,
  Entry,
  Filesystem,
  Parked,
  StatFs,
} from "../../src/fuse/filesystem.ts";
import type { Name } from "../../src/path.ts";

export type Script = { [Method in keyof Filesystem]?: Filesystem[Method] };

/** Sentinels: every field another value, so that swapped fields show. */
export const ATTR: Attr = {
  ino: 0x1fedcba9876543,
  sizeBytes: 0x100000003,
  timeSeconds: 0x123456789,
  mode: 0o100644,
  nlink: 0xdeadbeef,
  uid: 0xcafe0001,
  gid: 0xcafe0002,
};

export const ENTRY: Entry = {
  nodeid: 0x11223344556677,
  entryTimeoutMs: 86_400_250,
  attrTimeoutMs: 1500,
  attr: ATTR,
};

export class FakeFilesystem implements Filesystem {
  /** `[method, ...arguments]`, without sinks and buffers. */
  readonly calls: (readonly [string, ...(number | string)[]])[] = [];

  constructor(readonly script: Script = {}) {}

  #scripted<Method extends keyof Filesystem>(method: Method): NonNullable<Script[Method]> {
    const found = this.script[method];
    if (found === undefined) throw new FsError(ERRNO.ENOENT, `${method} is not scripted`);
    return found as NonNullable<Script[Method]>;
  }

  callsOf(method: keyof Filesystem): (readonly (number | string)[])[] {
    return this.calls.filter(([name]) => name === method).map(([, ...rest]) => rest);
  }

  lookup(parentNodeid: number, name: Name): Entry | Parked {
    this.calls.push(["lookup", parentNodeid, name]);
    return this.#scripted("lookup")(parentNodeid, name);
  }

  getattr(nodeid: number): Attributes | Parked {
    this.calls.push(["getattr", nodeid]);
    return this.#scripted("getattr")(nodeid);
  }

  readlink(nodeid: number): Uint8Array<ArrayBuffer> | Parked {
    this.calls.push(["readlink", nodeid]);
    return this.#scripted("readlink")(nodeid);
  }

  read(nodeid: number, offset: number, into: Uint8Array<ArrayBuffer>): number | Parked {
    this.calls.push(["read", nodeid, offset, into.length]);
    return this.#scripted("read")(nodeid, offset, into);
  }

  readdir(nodeid: number, offset: number, sink: DirentSink): Parked | void {
    this.calls.push(["readdir", nodeid, offset]);
    return this.#scripted("readdir")(nodeid, offset, sink);
  }

  readdirplus(nodeid: number, offset: number, sink: DirentSink): Parked | void {
    this.calls.push(["readdirplus", nodeid, offset]);
    return this.#scripted("readdirplus")(nodeid, offset, sink);
  }

  statfs(): StatFs {
    this.calls.push(["statfs"]);
    return this.#scripted("statfs")();
  }

  forget(nodeid: number, nlookup: number): void {
    this.calls.push(["forget", nodeid, nlookup]);
    this.script.forget?.(nodeid, nlookup);
  }
}
