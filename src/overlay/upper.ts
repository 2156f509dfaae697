/**
 * Backing files: `upper/<ino>`, one for each regular file whose content is not the base's. They are
 * reached below one directory descriptor only, by numbers we gave, so no name of a repository ever
 * becomes a path here.
 */

import { ERRNO, FsError } from "../errno.ts";
import {
  closeFd,
  type FileStat,
  O,
  openAt,
  openFd,
  statAt,
  statFd,
  syncFd,
  unlinkAt,
} from "../sys/mod.ts";
import type { HostPath } from "../path.ts";

/** Descriptors kept open; a file that is read or written again need not be opened again. */
const OPEN_MAX = 256;

export class Upper {
  readonly #dirFd: number;
  readonly #path: HostPath;
  /** Least recently used first. */
  readonly #fds = new Map<number, number>();
  /** Files were made or removed that no sync of the directory has reached, before the start too. */
  #unsyncedDirectory = true;
  readonly #onLost: (ino: number) => void;

  /** `onLost`: the disk has lost a backing file (a power failure without fsync). */
  constructor(path: HostPath, onLost: (ino: number) => void) {
    this.#path = path;
    this.#onLost = onLost;
    this.#dirFd = openFd(path, O.RDONLY | O.DIRECTORY);
  }

  /** An empty backing file, also where an abandoned copy lies. Throws FsError. */
  create(ino: number): number {
    this.release(ino);
    const fd = openAt(this.#dirFd, String(ino), O.RDWR | O.CREAT | O.TRUNC, 0o600);
    this.#unsyncedDirectory = true;
    return this.#keep(ino, fd);
  }

  /** A descriptor that stays good until the next call. Throws FsError. */
  fd(ino: number): number {
    const open = this.#fds.get(ino);
    if (open === undefined) return this.#keep(ino, this.#open(ino));
    this.#fds.delete(ino);
    this.#fds.set(ino, open);
    return open;
  }

  /** Throws FsError. */
  stat<Into extends FileStat>(ino: number, into: Into): Into {
    const open = this.#fds.get(ino);
    if (open !== undefined) return statFd(open, into);
    try {
      return statAt(this.#dirFd, String(ino), into);
    } catch (error) {
      if (!isAbsent(error)) throw error;
      return statFd(this.fd(ino), into);
    }
  }

  /** Nobody uses it now. */
  release(ino: number): void {
    const fd = this.#fds.get(ino);
    if (fd === undefined) return;
    this.#fds.delete(ino);
    closeFd(fd);
  }

  /** Throws FsError. */
  remove(ino: number): void {
    this.release(ino);
    unlinkAt(this.#dirFd, String(ino));
    this.#unsyncedDirectory = true;
  }

  /** Returns when the disk has the file and its name. Throws FsError. */
  sync(ino: number, options: { readonly dataOnly: boolean }): void {
    syncFd(this.fd(ino), options);
    this.syncDirectory();
  }

  syncDirectory(): void {
    if (!this.#unsyncedDirectory) return;
    syncFd(this.#dirFd, { dataOnly: false });
    this.#unsyncedDirectory = false;
  }

  /** Every backing file there is. */
  inos(): number[] {
    const inos: number[] = [];
    for (const { name } of Deno.readDirSync(this.#path)) {
      if (/^[1-9]\d*$/.test(name)) inos.push(Number(name));
    }
    return inos;
  }

  close(): void {
    for (const fd of this.#fds.values()) closeFd(fd);
    this.#fds.clear();
    closeFd(this.#dirFd);
  }

  #open(ino: number): number {
    try {
      return openAt(this.#dirFd, String(ino), O.RDWR);
    } catch (error) {
      if (!isAbsent(error)) throw error;
      // As after a power failure on a local disk: the name is there, the bytes are not.
      this.#onLost(ino);
      return openAt(this.#dirFd, String(ino), O.RDWR | O.CREAT, 0o600);
    }
  }

  #keep(ino: number, fd: number): number {
    for (const oldest of this.#fds.keys()) {
      if (this.#fds.size < OPEN_MAX) break;
      this.release(oldest);
    }
    this.#fds.set(ino, fd);
    return fd;
  }
}

function isAbsent(error: unknown): boolean {
  return error instanceof FsError && error.errno === ERRNO.ENOENT;
}
