/**
 * The writable layer of one mount: rows (`overlay.sqlite`) and backing files (`upper/<ino>`).
 *
 * Write order, so that a kill at any point leaves the state before or after a system call:
 *  - what is made:    backing file, then row
 *  - what is removed: row, then backing file
 * After a power failure the rows may be those from before, as far as no sync has reached them. So a
 * backing file that a sync has made durable is removed only when its row's end is durable too, and
 * the bytes of a copy-up are durable before its row.
 *
 * A backing file without a row that says `upper` is nobody's; the next one to open the overlay after
 * a kill removes it. A file that is unlinked but open has no row any more: it is one of those.
 *
 * Full disk: a transaction that fails leaves the rows as they were. One that frees space is tried
 * again after the reserve was given up.
 */

import { ERRNO, FsError } from "../errno.ts";
import { messageOf } from "../failure.ts";
import type { HostPath } from "../path.ts";
import { newStat } from "../sys/mod.ts";
import type { Inode } from "./inode.ts";
import { Journal } from "./journal.ts";
import { Reserve } from "./reserve.ts";
import { type JournalRow, OverlayStore } from "./store.ts";
import { Upper } from "./upper.ts";

/** Numbers of young files that are kept; forgotten ones are removed as durable ones are. */
const YOUNG_MAX = 100_000;
/** So many durable files, or so many bytes of them, are removed with one sync of the rows. */
const DOOMED_MAX = 64;
const DOOMED_BYTES_MAX = 4 * 1024 * 1024;
const BLOCK_BYTES = 512;

export interface OverlayOptions {
  readonly warn: (message: string, fields: Record<string, unknown>) => void;
  /** As in JournalOptions. */
  readonly firstId: string;
  readonly bootId: string;
}

export interface CommitOptions {
  /** It makes room, and may use the reserve for it. */
  readonly frees?: boolean;
  /** What it changes, for the journal. */
  readonly rows?: readonly JournalRow[];
}

export class Overlay {
  readonly store: OverlayStore;
  readonly upper: Upper;
  readonly journal: Journal;
  readonly #reserve: Reserve;
  /** Backing files that were made since the start and that no fsync has reached. */
  readonly #young = new Set<number>();
  /** Backing files without a row, to be removed when the disk knows that they have none. */
  #doomed: number[] = [];
  #doomedBytes = 0;
  /** A backing file could not be removed. */
  #leftBehind = false;

  /** Opens or makes the overlay in a folder that exists. Throws Failure, FsError. */
  constructor(dir: HostPath, { warn, firstId, bootId }: OverlayOptions) {
    const upperDir = `${dir}/upper` as HostPath;
    Deno.mkdirSync(upperDir, { recursive: true, mode: 0o700 });
    this.#reserve = new Reserve(`${dir}/reserve` as HostPath);
    this.store = this.#openStore(`${dir}/overlay.sqlite` as HostPath);
    this.upper = new Upper(
      upperDir,
      (ino) => warn("Backing file was lost; it is empty now", { ino }),
    );
    const wasClean = this.store.open();
    if (!wasClean) this.#removeOrphans();
    this.journal = new Journal(this.store, { firstId, bootId, wasClean });
    this.#reserve.take();
  }

  /** On a full disk too, so that somebody can make room through the mount. */
  #openStore(path: HostPath): OverlayStore {
    try {
      return new OverlayStore(path);
    } catch (error) {
      if (!this.#reserve.give()) throw error;
      return new OverlayStore(path);
    }
  }

  /**
   * Writes rows: all of `work` or nothing. Throws FsError (ENOSPC, EIO).
   */
  commit(work: (store: OverlayStore) => void, options: CommitOptions = {}): void {
    const { rows = [] } = options;
    const run = () => {
      if (rows.length > 0) this.journal.mark();
      this.store.transaction(() => {
        work(this.store);
        this.journal.write(rows);
      });
      this.journal.wrote(rows);
    };
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

  /** An empty backing file, to be followed by its row. Throws FsError. */
  createBackingFile(ino: number): number {
    // It was retired: its removal must not take the new one.
    if (this.#doomed.includes(ino)) this.sync(null, { dataOnly: false });
    const fd = this.upper.create(ino);
    if (this.#young.size >= YOUNG_MAX) this.#young.clear();
    this.#young.add(ino);
    return fd;
  }

  /**
   * Removes a backing file whose row is gone. What an fsync has made durable stays until the disk
   * knows that its row is gone: after a power failure the row may be there again, and must find its
   * bytes. Never throws: the next start would remove it.
   */
  removeBackingFile(ino: number): void {
    if (this.#young.delete(ino)) {
      this.#remove(ino);
      this.#reserve.take();
      return;
    }
    this.#doomed.push(ino);
    this.#doomedBytes += this.#bytesOf(ino);
    this.upper.release(ino);
    if (this.#doomed.length < DOOMED_MAX && this.#doomedBytes < DOOMED_BYTES_MAX) return;
    try {
      this.sync(null, { dataOnly: false });
    } catch {
      // They wait for the next one.
    }
    this.#reserve.take();
  }

  /**
   * As removeBackingFile, of an inode that lives on with the base's content: also a young one stays
   * until the disk knows that row.
   */
  retireBackingFile(ino: number): void {
    this.#young.delete(ino);
    this.removeBackingFile(ino);
  }

  /** fsync(2): returns when the disk has the file's bytes and every row. Throws FsError. */
  sync(inode: Inode | null, options: { readonly dataOnly: boolean }): void {
    if (inode !== null) {
      this.upper.sync(inode.ino, options);
      this.#young.delete(inode.ino);
    }
    try {
      this.store.sync();
    } catch (error) {
      throw fsErrorOf(error);
    }
    this.#doomedBytes = 0;
    for (const ino of this.#doomed.splice(0)) this.#remove(ino);
  }

  /** The disk has the bytes: from here on a row may be as durable as what it replaces. */
  syncBackingFile(ino: number): void {
    this.upper.sync(ino, { dataOnly: true });
    this.#young.delete(ino);
  }

  #remove(ino: number): void {
    try {
      this.upper.remove(ino);
    } catch {
      this.#leftBehind = true;
    }
  }

  #bytesOf(ino: number): number {
    try {
      return this.upper.stat(ino, newStat()).blocks * BLOCK_BYTES;
    } catch {
      return 0;
    }
  }

  close(): void {
    try {
      this.sync(null, { dataOnly: false });
    } catch {
      this.#leftBehind = true;
    }
    this.upper.close();
    this.store.close({ clean: !this.#leftBehind });
  }

  /** Gives descriptors back and puts nothing in order, as a kill: for tests. */
  abandon(): void {
    this.upper.close();
    this.store.close({ clean: false });
  }

  #removeOrphans(): void {
    // What a killed process has removed may be in the log only.
    this.store.sync();
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
