/**
 * Room kept for a full disk: a file of 8 MiB that is given up so that what frees space (unlink,
 * truncate) can still write its row.
 */

import { ERRNO, FsError } from "../errno.ts";
import type { HostPath } from "../path.ts";
import { allocateFd, closeFd, O, openFd, statFileSystem } from "../sys/mod.ts";

const RESERVE_BYTES = 8 * 1024 * 1024;
/** Free space from which on the reserve is taken again. */
const ENOUGH_BYTES = 8 * RESERVE_BYTES;

export class Reserve {
  readonly #path: HostPath;
  #held = false;

  constructor(path: HostPath) {
    this.#path = path;
  }

  /** Takes the room if there is plenty. Never throws: a disk that is nearly full has none. */
  take(): void {
    if (this.#held) return;
    try {
      const { availableBlocks, fragmentSizeBytes } = statFileSystem(
        this.#path.slice(0, this.#path.lastIndexOf("/")),
      );
      if (availableBlocks * fragmentSizeBytes < ENOUGH_BYTES) return;
      const fd = openFd(this.#path, O.RDWR | O.CREAT, 0o600);
      try {
        allocateFd(fd, 0, 0, RESERVE_BYTES);
        this.#held = true;
      } finally {
        closeFd(fd);
      }
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      // A file system without fallocate, or full after all.
      if (error.errno === ERRNO.ENOSPC) this.give();
    }
  }

  /** Gives it up; whether there was any, taken now or before the last start. */
  give(): boolean {
    this.#held = false;
    try {
      const { blocks } = Deno.statSync(this.#path);
      Deno.removeSync(this.#path);
      return (blocks ?? 0) > 0;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      return false;
    }
  }
}
