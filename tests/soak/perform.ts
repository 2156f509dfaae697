/** Makes one operation after the other in the working directory, and keeps what they open. */

import { describeStat, kindOf } from "../posix/state.ts";
import * as change from "../support/raw_change.ts";
import * as raw from "../support/raw_fs.ts";
import { createHash } from "node:crypto";
import { type Op, type Outcome, pattern, type Target } from "./op.ts";

/** The descriptor of a slot is not there: as if it had been closed. */
const NO_SLOT: Outcome = { errno: "no descriptor" };

class NoSlot extends Error {}

export function digest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex").slice(0, 16);
}

export class Hands {
  readonly #slots = new Map<string, number>();

  perform(op: Op): Outcome {
    try {
      return { value: this.#make(op) ?? null };
    } catch (error) {
      if (error instanceof NoSlot) return NO_SLOT;
      if (error instanceof raw.RawFsError) return { errno: raw.errnoName(error.errno) };
      throw error;
    }
  }

  /** The same operation with the offset that an append will have. */
  pinned(op: Op): Op {
    if (op.call !== "write" || op.offset !== null) return op;
    let offset = 0;
    const outcome = this.#try(() =>
      this.#with(op.to, raw.O_WRONLY, (fd) => offset = raw.fstat(fd).size)
    );
    return outcome ? { ...op, offset } : op;
  }

  #try(call: () => void): boolean {
    try {
      call();
      return true;
    } catch (error) {
      if (error instanceof NoSlot || error instanceof raw.RawFsError) return false;
      throw error;
    }
  }

  /** Closes everything. */
  reset(): void {
    for (const slot of [...this.#slots.keys()]) this.#close(slot);
  }

  #make(op: Op): unknown {
    switch (op.call) {
      case "open":
        this.#close(op.slot);
        return this.#keep(op.slot, raw.open(op.path, op.flags | raw.O_NONBLOCK, op.mode));
      case "tmpfile":
        this.#close(op.slot);
        return this.#keep(op.slot, raw.open(op.path, raw.O_TMPFILE | raw.O_RDWR, 0o600));
      case "close":
        return this.#close(op.slot);
      case "write": {
        const { offset } = op;
        const flags = raw.O_WRONLY | (offset === null ? raw.O_APPEND : 0);
        return this.#with(
          op.to,
          flags,
          (fd) =>
            offset === null ? raw.write(fd, pattern(op)) : raw.pwrite(fd, pattern(op), offset),
        );
      }
      case "poke":
        return this.#with(op.to, raw.O_RDWR, (fd) => {
          const end = op.offset + op.length;
          if (raw.fstat(fd).size < end) return "too short";
          const mapping = raw.mmap(fd, end, { shared: true, writable: true });
          try {
            mapping.bytes.set(pattern(op), op.offset);
            mapping.sync();
          } finally {
            mapping.unmap();
          }
        });
      case "copy":
        return this.#with(
          op.from,
          raw.O_RDONLY,
          (from) =>
            this.#with(
              op.to,
              raw.O_WRONLY,
              (to) => raw.copyFileRange(from, to, op.length, { in: op.fromOffset, out: op.offset }),
            ),
        );
      case "truncate":
        if ("path" in op.to) return change.truncate(op.to.path, op.size);
        return this.#with(op.to, raw.O_WRONLY, (fd) => change.ftruncate(fd, op.size));
      case "fallocate":
        return this.#with(
          op.to,
          raw.O_WRONLY,
          (fd) => change.fallocate(fd, op.mode, op.offset, op.length),
        );
      case "fsync":
        return this.#with(
          op.to,
          raw.O_RDONLY | raw.O_NONBLOCK,
          (fd) => op.dataOnly ? change.fdatasync(fd) : change.fsync(fd),
        );
      case "mkdir":
        return change.mkdir(op.path, op.mode);
      case "rmdir":
        return change.unlink(op.path, raw.AT_REMOVEDIR);
      case "unlink":
        return change.unlink(op.path);
      case "rename":
        return change.rename(op.from, op.path, op.flags);
      case "link":
        if ("path" in op.from) return change.link(op.from.path, op.path);
        return change.link("", op.path, raw.AT_EMPTY_PATH, this.#fd(op.from.slot));
      case "symlink":
        return change.symlink(op.target, op.path);
      case "mknod":
        return change.mknod(op.path, op.mode, 0x0102);
      case "chmod":
        if ("path" in op.to) return change.chmod(op.to.path, op.mode);
        return change.fchmod(this.#fd(op.to.slot), op.mode);
      case "chown":
        return change.lchown(op.path, op.uid, op.gid);
      case "utimens":
        return change.utimens(
          op.path,
          [timeOf(op.atime), timeOf(op.mtime)],
          raw.AT_SYMLINK_NOFOLLOW,
        );
      case "setxattr":
        return change.setxattr(op.path, op.name, pattern(op), op.flags);
      case "removexattr":
        return change.removexattr(op.path, op.name);
      case "listxattr":
        return xattrsOf(op.path);
      case "read":
        return this.#with(op.from, raw.O_RDONLY | raw.O_NONBLOCK, (fd) => {
          const buffer = new Uint8Array(op.length);
          let at = 0;
          // To the end: who is killed in between must not take a part for the whole.
          for (let n = 1; n > 0 && at < op.length; at += n) {
            n = raw.pread(fd, buffer.subarray(at), op.offset + at);
          }
          return `${at} ${digest(buffer.subarray(0, at))}`;
        });
      case "stat":
        return describeStat(
          "path" in op.of ? raw.stat(op.of.path) : raw.fstat(this.#fd(op.of.slot)),
        );
      case "lstat":
        return describeStat(raw.lstat(op.path));
      case "readdir":
        return raw.readdir(op.path, op.bufferBytes)
          // The root's is there on the mount alone.
          .filter(({ name }) => op.path !== "." || name !== ".git")
          .map(({ name, type }) => `${raw.printable(name)} ${type}`).sort().join(", ");
      case "readlink":
        return raw.printable(raw.readlink(op.path));
    }
  }

  #fd(slot: string): number {
    const fd = this.#slots.get(slot);
    if (fd === undefined) throw new NoSlot();
    return fd;
  }

  /** No fifos: their bytes are in the kernel, and a file system has no part in it. */
  #keep(slot: string, fd: number): string {
    const kind = kindOf(raw.fstat(fd));
    if (kind === "fifo") closeQuietly(fd);
    else this.#slots.set(slot, fd);
    return kind;
  }

  #close(slot: string): void {
    const fd = this.#slots.get(slot);
    if (fd === undefined) return;
    this.#slots.delete(slot);
    closeQuietly(fd);
  }

  #with<T>(target: Target, flags: number, use: (fd: number) => T): T {
    if ("slot" in target) return use(this.#fd(target.slot));
    const fd = raw.open(target.path, flags | raw.O_NONBLOCK);
    try {
      return use(fd);
    } finally {
      closeQuietly(fd);
    }
  }
}

/** Where the daemon is dead, close(2) says so; the descriptor is closed all the same. */
function closeQuietly(fd: number): void {
  raw.errnoOf(() => raw.close(fd));
}

function timeOf(time: string): change.Time {
  return time === "now" || time === "omit" ? time : BigInt(time);
}

/** Names and values of the user's attributes, of the link itself where the path is one. */
export function xattrsOf(path: raw.ByteString): Record<string, string> {
  const names = new Uint8Array(65536);
  const length = change.listxattr(path, names);
  const list = raw.fromBytes(names.subarray(0, length)).split("\0")
    .filter((name) => name.startsWith("user.")).sort();
  return Object.fromEntries(list.map((name) => {
    const value = new Uint8Array(65536);
    return [name, digest(value.subarray(0, change.getxattr(path, name, value)))];
  }));
}
