/**
 * What stands in a mount while its repository is being prepared: a directory that can be looked at
 * from outside, and everything in it waits.
 *
 *   state     event                       next      what is asked for in it
 *   waiting   the repository has come     (gone)    is asked of the repository, in its turn
 *   waiting   preparation failed          failed    EIO
 *   failed    it is prepared once more    waiting   waits
 *
 * Whoever changes the state wakes GATE_KEY. What waits has no deadline: preparation has one.
 */

import { ERRNO, FsError } from "../errno.ts";
import {
  type Attributes,
  type Filesystem,
  newAttr,
  Parked,
  type StatFs,
} from "../fuse/filesystem.ts";
import { ROOT_INO } from "./ino.ts";
import { baseModes } from "./view.ts";

/** What waits at the gate waits for this. */
export const GATE_KEY = "gate";
const ROOT_NODE = 1;

export interface GateOptions {
  readonly uid: number;
  readonly gid: number;
  readonly umask: number;
  /** As the repository will have it: what the kernel learns of it is for good. */
  readonly hasXattrs: boolean;
  /** Times of the directory, seconds since 1970. */
  readonly timeSeconds: number;
  readonly statfs: () => StatFs;
}

export class Gate implements Filesystem {
  state: "waiting" | "failed" = "waiting";
  readonly hasXattrs: boolean;
  readonly #options: GateOptions;

  constructor(options: GateOptions) {
    this.#options = options;
    this.hasXattrs = options.hasXattrs;
  }

  /** The kernel asks again next time: the repository's root looks otherwise. */
  getattr(nodeid: number): Attributes {
    if (nodeid !== ROOT_NODE) return this.#wait();
    const { uid, gid, umask, timeSeconds } = this.#options;
    const attr = newAttr();
    attr.ino = ROOT_INO;
    attr.mode = baseModes(umask).directory;
    attr.nlink = 2;
    attr.uid = uid;
    attr.gid = gid;
    attr.atimeSeconds = attr.mtimeSeconds = attr.ctimeSeconds = timeSeconds;
    return { attr, attrTimeoutMs: 0 };
  }

  statfs(): StatFs {
    return this.#options.statfs();
  }

  /** Nothing was given out that could be counted. */
  forget(): void {}

  readonly lookup = (): never => this.#wait();
  readonly readlink = (): never => this.#wait();
  readonly read = (): never => this.#wait();
  readonly readdir = (): never => this.#wait();
  readonly readdirplus = (): never => this.#wait();
  readonly lseek = (): never => this.#wait();
  readonly setattr = (): never => this.#wait();
  readonly mknod = (): never => this.#wait();
  readonly mkdir = (): never => this.#wait();
  readonly symlink = (): never => this.#wait();
  readonly link = (): never => this.#wait();
  readonly unlink = (): never => this.#wait();
  readonly rmdir = (): never => this.#wait();
  readonly rename = (): never => this.#wait();
  readonly tmpfile = (): never => this.#wait();
  readonly write = (): never => this.#wait();
  readonly fallocate = (): never => this.#wait();
  readonly copyFileRange = (): never => this.#wait();
  readonly fsync = (): never => this.#wait();
  readonly fsyncdir = (): never => this.#wait();
  readonly getxattr = (): never => this.#wait();
  readonly listxattr = (): never => this.#wait();
  readonly setxattr = (): never => this.#wait();
  readonly removexattr = (): never => this.#wait();

  #wait(): never {
    if (this.state === "failed") throw new FsError(ERRNO.EIO, "preparation has failed");
    throw new Parked(GATE_KEY, { patient: true });
  }
}
