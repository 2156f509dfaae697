/**
 * Bytes of files: read from the base or a backing file, written to a backing file only.
 *
 * Copy-up: the first write copies the base's bytes into a backing file, then the row says so. The
 * kernel sees no difference: same node, same ino, same bytes, and the times are those from before.
 * It needs the whole blob, so it parks until that is here; what was copied so far is kept. Cutting
 * to nothing copies nothing.
 */

import { ERRNO, FsError } from "../errno.ts";
import { Parked } from "../fuse/filesystem.ts";
import { CONTENT, type Inode } from "../overlay/inode.ts";
import {
  allocateFd,
  copyRange,
  type FileTime,
  preadFull,
  pwriteAll,
  SEEK,
  seekFd,
  setTimes,
  truncateFd,
} from "../sys/mod.ts";
import type { Name } from "../path.ts";
import { Change } from "./change.ts";
import { answerBytes } from "./monitor_files.ts";
import type { Node } from "./node_table.ts";
import { afterWrite } from "./modes.ts";
import { waitKey } from "./objects.ts";
import { treeIdsOf, type View } from "./view.ts";

/** The kernel's READLINK takes one byte less than a page (fuse_readlink_page). */
const LINK_MAX_BYTES = 4095;
const COPY_BYTES = 1024 * 1024;
/** Copied without a pause: others wait meanwhile. */
const COPY_TURN_BYTES = 16 * COPY_BYTES;

const CAPABILITY = "security.capability" as Name;

/** A copy-up that is not complete. */
interface Copy {
  readonly ino: number;
  copiedBytes: number;
}

export interface ContentsOptions {
  /** Extended attributes are kept, so a write has a capability to take away. */
  readonly xattrs: boolean;
}

export class Contents {
  readonly #view: View;
  readonly #options: ContentsOptions;
  /** Copies that wait for more of their blob. */
  readonly #copies = new Map<Node, Copy>();
  readonly #buffer = new Uint8Array(COPY_BYTES);

  constructor(view: View, options: ContentsOptions) {
    this.#view = view;
    this.#options = options;
  }

  /** Fewer bytes than `into` has room for only at the end of the file. Throws Parked, FsError. */
  read(node: Node, offset: number, into: Uint8Array<ArrayBuffer>): number {
    if (node.hasBackingFile) return preadFull(this.#fd(node), into, offset);
    if (node.kind === "gitfile") {
      const bytes = this.#view.options.gitfile.subarray(offset, offset + into.length);
      into.set(bytes);
      return bytes.length;
    }
    if (node.kind === "answer") {
      const bytes = answerBytes(this.#view, node).subarray(offset, offset + into.length);
      into.set(bytes);
      return bytes.length;
    }
    if (!node.showsBlob) throw new FsError(node.isDirectory ? ERRNO.EISDIR : ERRNO.EINVAL);
    return this.#readBlob(node, offset, into);
  }

  readlink(node: Node): Uint8Array<ArrayBuffer> {
    if (node.kind !== "symlink") throw new FsError(ERRNO.EINVAL);
    const made = node.inode?.target ?? null;
    if (made !== null) return made;
    const target = new Uint8Array(LINK_MAX_BYTES + 1);
    const count = this.#readBlob(node, 0, target);
    if (count > LINK_MAX_BYTES) throw new FsError(ERRNO.ENAMETOOLONG);
    return target.subarray(0, count);
  }

  /** How many bytes were written: fewer than given when the disk is full. */
  write(
    node: Node,
    offset: number,
    bytes: Uint8Array<ArrayBuffer>,
    killSuidGidFor: number | null,
  ): number {
    this.#prepare(node);
    this.#beforeBytes(node, killSuidGidFor);
    return pwriteAll(this.#fd(node), bytes, offset);
  }

  fallocate(node: Node, mode: number, offset: number, lengthBytes: number): void {
    this.#prepare(node);
    this.#beforeBytes(node, null);
    allocateFd(this.#fd(node), mode, offset, lengthBytes);
  }

  /** SEEK_DATA and SEEK_HOLE; a file of the base is all data. */
  lseek(node: Node, offset: number, whence: number): number {
    if (whence !== SEEK.DATA && whence !== SEEK.HOLE) throw new FsError(ERRNO.EINVAL);
    if (node.hasBackingFile) return seekFd(this.#fd(node), offset, whence);
    const size = this.#sizeOf(node);
    if (offset >= size) throw new FsError(ERRNO.ENXIO);
    return whence === SEEK.DATA ? offset : size;
  }

  copyFileRange(
    from: Node,
    offset: number,
    to: Node,
    toOffset: number,
    lengthBytes: number,
  ): number {
    if (from.hasBackingFile) {
      this.#prepare(to);
      this.#beforeBytes(to, null);
      const most = Math.min(lengthBytes, COPY_TURN_BYTES);
      return copyRange(this.#fd(from), offset, this.#fd(to), toOffset, most);
    }
    const part = new Uint8Array(Math.min(lengthBytes, COPY_BYTES));
    const count = this.read(from, offset, part);
    return this.write(to, toOffset, part.subarray(0, count), null);
  }

  /** truncate(2), and open(2) with O_TRUNC. Throws Parked, FsError. */
  resize(node: Node, sizeBytes: number): void {
    if (sizeBytes === 0 && !node.hasBackingFile) this.#empty(node);
    else {
      this.#prepare(node);
      this.#beforeBytes(node, null);
      truncateFd(this.#fd(node), sizeBytes);
    }
  }

  /** Of a file with a backing file, whose times are its own. */
  setTimes(node: Node, atime: FileTime, mtime: FileTime): void {
    setTimes(this.#fd(node), atime, mtime);
  }

  /** The first write to it is under way. */
  isCopying(node: Node): boolean {
    return this.#copies.has(node);
  }

  /** A node is gone: so is what was copied of it. */
  drop(node: Node): void {
    const copy = this.#copies.get(node);
    if (copy !== undefined) this.#abandon(node, copy);
  }

  close(): void {
    for (const [node, copy] of this.#copies) this.#abandon(node, copy);
  }

  /** From here on the node has a backing file. Throws Parked, FsError. */
  #prepare(node: Node): void {
    if (node.hasBackingFile) return;
    refuseUnwritable(node);
    const change = new Change(this.#view);
    const row = change.row(node);
    const copy = this.#copies.get(node) ?? this.#startCopy(node, row.ino);
    try {
      this.#copyRest(node, copy);
      const { atime, mtime } = timesOf(row);
      setTimes(this.#view.overlay.upper.fd(copy.ino), atime, mtime);
      this.#view.overlay.syncBackingFile(copy.ino);
      change.set(node, { ino: copy.ino, content: CONTENT.upper, oid: null });
      change.commit();
      this.#copies.delete(node);
    } catch (error) {
      if (!(error instanceof Parked)) this.#abandon(node, copy);
      throw error;
    }
  }

  #startCopy(node: Node, ino: number): Copy {
    this.#view.overlay.createBackingFile(ino);
    const copy = { ino, copiedBytes: 0 };
    this.#copies.set(node, copy);
    return copy;
  }

  /** Throws Parked when bytes are missing, and now and then to let others have a turn. */
  #copyRest(node: Node, copy: Copy): void {
    const { upper } = this.#view.overlay;
    const pauseAt = copy.copiedBytes + COPY_TURN_BYTES;
    for (;;) {
      if (copy.copiedBytes >= pauseAt) throw this.#pause(copy);
      const count = this.#readBlob(node, copy.copiedBytes, this.#buffer);
      const part = this.#buffer.subarray(0, count);
      if (pwriteAll(upper.fd(copy.ino), part, copy.copiedBytes) < count) {
        throw new FsError(ERRNO.ENOSPC);
      }
      copy.copiedBytes += count;
      if (count < this.#buffer.length) return;
    }
  }

  #pause({ ino }: Copy): Parked {
    const key = `copy:${ino}`;
    this.#view.options.wakeSoon(key);
    return new Parked(key);
  }

  #abandon(node: Node, { ino }: Copy): void {
    this.#copies.delete(node);
    this.#view.overlay.removeBackingFile(ino);
  }

  /** Cut to nothing: no byte of the base is needed. */
  #empty(node: Node): void {
    refuseUnwritable(node);
    this.drop(node);
    const change = new Change(this.#view);
    const row = change.row(node);
    const { overlay } = this.#view;
    try {
      const fd = overlay.createBackingFile(row.ino);
      setTimes(fd, timesOf(row).atime, null);
      change.set(node, { content: CONTENT.upper, oid: null });
      change.notes.file(node);
      change.commit({ frees: true });
    } catch (error) {
      overlay.removeBackingFile(row.ino);
      throw error;
    }
    this.#dropPrivileges(node, null);
  }

  /** What has to be on disk before a byte of a file changes. */
  #beforeBytes(node: Node, killSuidGidFor: number | null): void {
    this.#view.monitor.beforeContent(node);
    this.#dropPrivileges(node, killSuidGidFor);
  }

  /**
   * What a file loses when somebody writes it: setuid and setgid if the kernel says so, and a
   * capability always (FUSE_HANDLE_KILLPRIV_V2).
   */
  #dropPrivileges(node: Node, killSuidGidFor: number | null): void {
    const { inode } = node;
    if (inode === null) return;
    const mode = killSuidGidFor === null ? inode.mode : afterWrite(inode, killSuidGidFor);
    const hasCapability = this.#options.xattrs &&
      this.#view.overlay.store.xattr(inode.ino, CAPABILITY) !== null;
    if (mode === inode.mode && !hasCapability) return;
    const change = new Change(this.#view);
    change.touch(node, { mode });
    if (hasCapability) change.also((store) => store.deleteXattr(inode.ino, CAPABILITY));
    change.commit();
  }

  #fd(node: Node): number {
    return this.#view.overlay.upper.fd(node.ino);
  }

  #readBlob(node: Node, offset: number, into: Uint8Array<ArrayBuffer>): number {
    const count = this.#view.objects.read(node.oid, offset, into, () => treeIdsOf(node));
    if (count === undefined) throw new Parked(waitKey("content", node.oid));
    return count;
  }

  #sizeOf(node: Node): number {
    if (node.kind === "gitfile") return this.#view.options.gitfile.length;
    if (node.kind === "answer") return answerBytes(this.#view, node).length;
    if (!node.showsBlob) throw new FsError(ERRNO.EINVAL);
    const size = this.#view.size(node);
    if (size === undefined) throw new Parked(waitKey("size", node.oid));
    return size;
  }
}

/** Throws FsError. */
function refuseUnwritable(node: Node): void {
  if (node.isSynthetic) throw new FsError(ERRNO.EPERM);
  if (!node.isFile) throw new FsError(node.isDirectory ? ERRNO.EISDIR : ERRNO.EINVAL);
}

function timesOf(inode: Inode): { readonly atime: FileTime; readonly mtime: FileTime } {
  return {
    atime: { seconds: inode.atimeSeconds, nanoseconds: inode.atimeNanoseconds },
    mtime: { seconds: inode.mtimeSeconds, nanoseconds: inode.mtimeNanoseconds },
  };
}
