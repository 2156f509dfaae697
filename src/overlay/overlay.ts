/**
 * The writable layer of one mount: rows (`overlay.sqlite`) and backing files (`upper/<ino>`).
 *
 * Write order, so that a kill at any point leaves the state before or after a system call:
 *  - what is made:    backing file, then row
 *  - what is removed: row, then backing file
 * A backing file without a row that says `upper` is nobody's; the next one to open the overlay after
 * a kill removes it. A file that is unlinked but open has no row any more: it is one of those.
 *
 * Full disk: a transaction that fails leaves the rows as they were. One that frees space is tried
 * again after the reserve was given up.
 */

import { ERRNO, FsError } from "../errno.ts";
import { messageOf } from "../failure.ts";
import type { HostPath } from "../path.ts";
import type { Inode } from "./inode.ts";
import { Reserve } from "./reserve.ts";
import { OverlayStore } from "./store.ts";
import { Upper } from "./upper.ts";

export interface OverlayLog {
  warn(message: string, fields: Record<string, unknown>): void;
}

export class Overlay {
  readonly store: OverlayStore;
  readonly upper: Upper;
  readonly #reserve: Reserve;
  /** A backing file could not be removed. */
  #leftBehind = false;

  /** Opens or makes the overlay in a folder that exists. Throws Failure, FsError. */
  constructor(dir: HostPath, log: OverlayLog) {
    const upperDir = `${dir}/upper` as HostPath;
    Deno.mkdirSync(upperDir, { recursive: true, mode: 0o700 });
    this.store = new OverlayStore(`${dir}/overlay.sqlite` as HostPath);
    this.upper = new Upper(
      upperDir,
      (ino) => log.warn("Backing file was lost; it is empty now", { ino }),
    );
    this.#reserve = new Reserve(`${dir}/reserve` as HostPath);
    if (!this.store.open()) this.#removeOrphans();
    this.#reserve.take();
  }

  /**
   * Writes rows: all of `work` or nothing. `frees`: it makes room, and may use the reserve for it.
   * Throws FsError (ENOSPC, EIO).
   */
  commit(work: (store: OverlayStore) => void, options: { readonly frees?: boolean } = {}): void {
    const run = () => this.store.transaction(() => work(this.store));
    try {
      run();
    } catch (error) {
      const failure = fsErrorOf(error);
      const again = options.frees === true && failure.errno === ERRNO.ENOSPC &&
        this.#reserve.give();
      if (!again) throw failure;
      try {
        run();
      } catch (secondError) {
        throw fsErrorOf(secondError);
      }
    }
  }

  /** Throws FsError. */
  allocateIno(): number {
    try {
      return this.store.allocateIno();
    } catch (error) {
      throw fsErrorOf(error);
    }
  }

  /** Removes a backing file whose row is gone. Never throws: the next start would remove it. */
  removeBackingFile(ino: number): void {
    try {
      this.upper.remove(ino);
    } catch {
      this.#leftBehind = true;
      return;
    }
    this.#reserve.take();
  }

  /** fsync(2): returns when the disk has the file's bytes and every row. Throws FsError. */
  sync(inode: Inode | null, options: { readonly dataOnly: boolean }): void {
    if (inode !== null) this.upper.sync(inode.ino, options);
    try {
      this.store.sync();
    } catch (error) {
      throw fsErrorOf(error);
    }
  }

  close(): void {
    this.upper.close();
    this.store.close({ clean: !this.#leftBehind });
  }

  /** Gives descriptors back and puts nothing in order, as a kill: for tests. */
  abandon(): void {
    this.upper.close();
    this.store.close({ clean: false });
  }

  #removeOrphans(): void {
    const owned = this.store.inosWithBackingFile();
    for (const ino of this.upper.inos()) if (!owned.has(ino)) this.upper.remove(ino);
  }
}

/** SQLITE_FULL, which Deno gives as its message only, is ENOSPC; anything else is EIO. */
function fsErrorOf(error: unknown): FsError {
  if (error instanceof FsError) return error;
  const message = messageOf(error);
  const errno = /disk is full/.test(message) ? ERRNO.ENOSPC : ERRNO.EIO;
  return new FsError(errno, message, { cause: error });
}
