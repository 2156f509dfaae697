/**
 * Files below a directory descriptor, as the writable layer needs them: exact to the errno and the
 * nanosecond. Offsets and sizes are bytes below 2^53. All functions throw FsError.
 */

import { ERRNO } from "../errno.ts";
import { O } from "./fd.ts";
import { cString, errno, lastError, libc } from "./libc.ts";

/** statx(2) of a file: times are seconds since 1970 (negative before) and nanoseconds. */
export interface FileStat {
  sizeBytes: number;
  /** Of 512 bytes. */
  blocks: number;
  atimeSeconds: number;
  atimeNanoseconds: number;
  mtimeSeconds: number;
  mtimeNanoseconds: number;
  ctimeSeconds: number;
  ctimeNanoseconds: number;
}

/** With who owns it and what it is, for whoever asks. */
export interface OwnedStat extends FileStat {
  /** As st_mode. */
  mode: number;
  uid: number;
}

/** All 0, to be filled by the calls below. */
export function newStat(): FileStat {
  return {
    sizeBytes: 0,
    blocks: 0,
    atimeSeconds: 0,
    atimeNanoseconds: 0,
    mtimeSeconds: 0,
    mtimeNanoseconds: 0,
    ctimeSeconds: 0,
    ctimeNanoseconds: 0,
  };
}

/** A time for futimens(2); null leaves it as it is, "now" is the kernel's clock. */
export type FileTime = { readonly seconds: number; readonly nanoseconds: number } | "now" | null;

export const SEEK = { DATA: 3, HOLE: 4 } as const;

/** Opens `name` (one component) in a directory. */
export function openAt(dirFd: number, name: string, flags: number, mode = 0): number {
  const fd = libc.openat(dirFd, cString(name), flags | O.CLOEXEC | O.NOFOLLOW, mode);
  if (fd < 0) throw lastError(`openat ${name}`);
  return fd;
}

/** Removes a file of a directory; one that is not there is removed already. */
export function unlinkAt(dirFd: number, name: string): void {
  if (libc.unlinkat(dirFd, cString(name), 0) !== 0 && errno() !== ERRNO.ENOENT) {
    throw lastError(`unlinkat ${name}`);
  }
}

/** Writes from `offset` on; fewer bytes than given when something stopped it half way. */
export function pwriteAll(fd: number, from: Uint8Array<ArrayBuffer>, offset: number): number {
  let done = 0;
  while (done < from.length) {
    const part = done === 0 ? from : from.subarray(done);
    const count = Number(libc.pwrite(fd, part, BigInt(part.length), BigInt(offset + done)));
    if (count < 0 && errno() === ERRNO.EINTR) continue;
    if (count < 0 && done === 0) throw lastError("pwrite");
    if (count <= 0) break;
    done += count;
  }
  return done;
}

export function truncateFd(fd: number, sizeBytes: number): void {
  if (libc.ftruncate(fd, BigInt(sizeBytes)) !== 0) throw lastError("ftruncate");
}

/** `mode`: FALLOC_FL_* bits, as the kernel's. */
export function allocateFd(fd: number, mode: number, offset: number, lengthBytes: number): void {
  if (libc.fallocate(fd, mode, BigInt(offset), BigInt(lengthBytes)) !== 0) {
    throw lastError("fallocate");
  }
}

/** lseek(2) with SEEK.DATA or SEEK.HOLE. */
export function seekFd(fd: number, offset: number, whence: number): number {
  const found = Number(libc.lseek(fd, BigInt(offset), whence));
  if (found < 0) throw lastError("lseek");
  return found;
}

/** fsync(2), or fdatasync(2): returns when the disk has it. */
export function syncFd(fd: number, options: { readonly dataOnly: boolean }): void {
  if ((options.dataOnly ? libc.fdatasync(fd) : libc.fsync(fd)) !== 0) throw lastError("fsync");
}

const ranges = new BigInt64Array(2);
const rangeIn = new Uint8Array(ranges.buffer, 0, 8);
const rangeOut = new Uint8Array(ranges.buffer, 8, 8);

/** copy_file_range(2): bytes copied, 0 at the end of the source. May share extents. */
export function copyRange(
  fromFd: number,
  fromOffset: number,
  toFd: number,
  toOffset: number,
  lengthBytes: number,
): number {
  ranges[0] = BigInt(fromOffset);
  ranges[1] = BigInt(toOffset);
  const count = Number(
    libc.copy_file_range(fromFd, rangeIn, toFd, rangeOut, BigInt(lengthBytes), 0),
  );
  if (count < 0) throw lastError("copy_file_range");
  return count;
}

const UTIME_NOW = 0x3fffffffn;
const UTIME_OMIT = 0x3ffffffen;
const timespecs = new BigInt64Array(4);
const timespecBytes = new Uint8Array(timespecs.buffer);

function putTime(at: number, time: FileTime): void {
  if (time === null || time === "now") {
    timespecs[at] = 0n;
    timespecs[at + 1] = time === null ? UTIME_OMIT : UTIME_NOW;
  } else {
    timespecs[at] = BigInt(time.seconds);
    timespecs[at + 1] = BigInt(time.nanoseconds);
  }
}

/** futimens(2). */
export function setTimes(fd: number, atime: FileTime, mtime: FileTime): void {
  putTime(0, atime);
  putTime(2, mtime);
  if (libc.futimens(fd, timespecBytes) !== 0) throw lastError("futimens");
}

/** struct statx is the same on every architecture (include/uapi/linux/stat.h), 256 bytes. */
const STATX = {
  uid: 20,
  mode: 28,
  size: 40,
  blocks: 48,
  atime: 64,
  ctime: 96,
  mtime: 112,
} as const;
const STATX_BASIC_STATS = 0x7ff;
const AT_EMPTY_PATH = 0x1000;
const AT_SYMLINK_NOFOLLOW = 0x100;
const statxBytes = new Uint8Array(256);
const statxView = new DataView(statxBytes.buffer);
const noName = cString("");

/** Of an open file. `into` is filled and returned, so that a hot path makes no garbage. */
export function statFd<Into extends FileStat>(fd: number, into: Into): Into {
  if (libc.statx(fd, noName, AT_EMPTY_PATH, STATX_BASIC_STATS, statxBytes) !== 0) {
    throw lastError("statx");
  }
  return takeStat(into);
}

/** Of a file in a directory. */
export function statAt<Into extends FileStat>(dirFd: number, name: string, into: Into): Into {
  const flags = AT_SYMLINK_NOFOLLOW;
  if (libc.statx(dirFd, cString(name), flags, STATX_BASIC_STATS, statxBytes) !== 0) {
    throw lastError(`statx ${name}`);
  }
  return takeStat(into);
}

/** Of an open file, with its owner and kind. */
export function ownedStatFd(fd: number): OwnedStat {
  const stat = statFd(fd, newStat());
  const [mode, uid] = [statxView.getUint16(STATX.mode, true), statxView.getUint32(STATX.uid, true)];
  return { ...stat, mode, uid };
}

function takeStat<Into extends FileStat>(into: Into): Into {
  into.sizeBytes = Number(statxView.getBigUint64(STATX.size, true));
  into.blocks = Number(statxView.getBigUint64(STATX.blocks, true));
  into.atimeSeconds = secondsAt(STATX.atime);
  into.atimeNanoseconds = statxView.getUint32(STATX.atime + 8, true);
  into.mtimeSeconds = secondsAt(STATX.mtime);
  into.mtimeNanoseconds = statxView.getUint32(STATX.mtime + 8, true);
  into.ctimeSeconds = secondsAt(STATX.ctime);
  into.ctimeNanoseconds = statxView.getUint32(STATX.ctime + 8, true);
  return into;
}

function secondsAt(at: number): number {
  return statxView.getInt32(at + 4, true) * 0x100000000 + statxView.getUint32(at, true);
}

const CLOCK_REALTIME = 0;
const CLOCK_REALTIME_COARSE = 5;
const clockBytes = new Uint8Array(16);
const clockView = new DataView(clockBytes.buffer);

/**
 * The clock that file systems stamp files with (ktime_get_coarse_real_ts64), so that our own times
 * and those of backing files stand in the order in which things happened. `precise`: not that of
 * the last tick, some milliseconds ago, as where one change must be later than another.
 */
export function fileClock(
  { precise }: { readonly precise: boolean } = { precise: false },
): { seconds: number; nanoseconds: number } {
  libc.clock_gettime(precise ? CLOCK_REALTIME : CLOCK_REALTIME_COARSE, clockBytes);
  return {
    seconds: Number(clockView.getBigInt64(0, true)),
    nanoseconds: clockView.getUint32(8, true),
  };
}
