/**
 * Files of a directory that somebody else writes: opened so that no name in it leads out of it, to
 * another file system, or to anything that an open would wait for. All functions throw FsError.
 */

import { ERRNO } from "../errno.ts";
import { O } from "./fd.ts";
import { cString, errno, lastError, libc } from "./libc.ts";

/** System calls by number; openat2's is the same everywhere. */
const OPENAT2 = 437n;
const GETDENTS64 = Deno.build.arch === "aarch64" ? 61n : 217n;

/** RESOLVE_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH (include/uapi/linux/openat2.h). */
const RESOLVE = 0x01 | 0x02 | 0x04 | 0x08;

/** struct open_how: flags, mode, resolve. */
const how = new BigUint64Array(3);
const howBytes = new Uint8Array(how.buffer);

/**
 * Opens a path below a directory for reading. Symbolic links and mounts on the way are refused, a
 * FIFO is opened without its writer, and a lease is not waited for. Throws ENOSYS before Linux 5.6.
 */
export function openBeneath(dirFd: number, path: string, flags = 0): number {
  how[0] = BigInt(O.RDONLY | O.NONBLOCK | O.CLOEXEC | flags);
  how[2] = BigInt(RESOLVE);
  const fd = Number(libc.openat2(OPENAT2, BigInt(dirFd), cString(path), howBytes, 24n));
  if (fd < 0) throw lastError(`openat2 ${path}`);
  return fd;
}

/** struct linux_dirent64: d_ino, d_off, then this, d_type, and the name with a NUL. */
const RECORD_LENGTH_AT = 16;
const NAME_AT = 19;
const dents = new Uint8Array(32 * 1024);
const dentsView = new DataView(dents.buffer);
const latin1 = new TextDecoder("latin1");

/** Names in an open directory, as byte strings; no more than so many, or a few. */
export function namesIn(dirFd: number, atMost: number): string[] {
  const names: string[] = [];
  while (names.length < atMost) {
    const room = BigInt(dents.length);
    const count = Number(libc.getdents64(GETDENTS64, BigInt(dirFd), dents, room));
    if (count < 0 && errno() === ERRNO.EINTR) continue;
    if (count < 0) throw lastError("getdents64");
    if (count === 0) break;
    for (let at = 0; at < count;) {
      const length = dentsView.getUint16(at + RECORD_LENGTH_AT, true);
      const name = dents.subarray(at + NAME_AT, at + length);
      names.push(latin1.decode(name.subarray(0, name.indexOf(0))));
      at += length;
    }
  }
  return names.filter((name) => name !== "." && name !== "..");
}
