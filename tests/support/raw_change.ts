/**
 * Calls that change names, attributes and lengths, by libc over FFI, as raw_fs.ts does for looking.
 * Paths are byte strings; failures throw RawFsError with a positive errno.
 */
import { AT_FDCWD, AT_SYMLINK_NOFOLLOW, checked, cstring, type RawPath } from "./raw_fs.ts";

export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;
export const FALLOC_KEEP_SIZE = 1;
export const FALLOC_PUNCH_HOLE = 2;
export const FALLOC_COLLAPSE_RANGE = 8;
export const FALLOC_ZERO_RANGE = 16;
export const FALLOC_INSERT_RANGE = 32;
export const FALLOC_UNSHARE_RANGE = 64;
export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;
/** "Leave it" for an owner or group of chown(2). */
export const UNCHANGED = 0xffff_ffff;

/** A time for utimensat(2): nanoseconds since the epoch, the present, or what it was. */
export type Time = bigint | "now" | "omit";

const libc = Deno.dlopen("libc.so.6", {
  mkdir: { parameters: ["buffer", "u32"], result: "i32" },
  unlinkat: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  renameat2: { parameters: ["i32", "buffer", "i32", "buffer", "u32"], result: "i32" },
  symlink: { parameters: ["buffer", "buffer"], result: "i32" },
  linkat: { parameters: ["i32", "buffer", "i32", "buffer", "i32"], result: "i32" },
  mknod: { parameters: ["buffer", "u32", "u64"], result: "i32" },
  chmod: { parameters: ["buffer", "u32"], result: "i32" },
  fchmod: { parameters: ["i32", "u32"], result: "i32" },
  fchownat: { parameters: ["i32", "buffer", "u32", "u32", "i32"], result: "i32" },
  fchown: { parameters: ["i32", "u32", "u32"], result: "i32" },
  futimens: { parameters: ["i32", "buffer"], result: "i32" },
  utimensat: { parameters: ["i32", "buffer", "buffer", "i32"], result: "i32" },
  truncate: { parameters: ["buffer", "i64"], result: "i32" },
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  fallocate: { parameters: ["i32", "i32", "i64", "i64"], result: "i32" },
  fsync: { parameters: ["i32"], result: "i32" },
  fdatasync: { parameters: ["i32"], result: "i32" },
  chdir: { parameters: ["buffer"], result: "i32" },
  fchdir: { parameters: ["i32"], result: "i32" },
  umask: { parameters: ["u32"], result: "u32" },
  statfs: { parameters: ["buffer", "buffer"], result: "i32" },
  lsetxattr: { parameters: ["buffer", "buffer", "buffer", "usize", "i32"], result: "i32" },
  lgetxattr: { parameters: ["buffer", "buffer", "buffer", "usize"], result: "isize" },
  llistxattr: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
  lremovexattr: { parameters: ["buffer", "buffer"], result: "i32" },
}).symbols;

export function mkdir(path: RawPath, mode = 0o755): void {
  checked(libc.mkdir(cstring(path), mode), "mkdir", path);
}

/** unlinkat(2); flags: AT_REMOVEDIR. */
export function unlink(path: RawPath, flags = 0): void {
  checked(libc.unlinkat(AT_FDCWD, cstring(path), flags), "unlink", path);
}

/** renameat2(2); flags: RENAME_*. */
export function rename(from: RawPath, to: RawPath, flags = 0): void {
  checked(libc.renameat2(AT_FDCWD, cstring(from), AT_FDCWD, cstring(to), flags), "rename", to);
}

export function symlink(target: RawPath, path: RawPath): void {
  checked(libc.symlink(cstring(target), cstring(path)), "symlink", path);
}

/** linkat(2); flags: AT_SYMLINK_FOLLOW, and AT_EMPTY_PATH with a descriptor and "". */
export function link(from: RawPath, to: RawPath, flags = 0, fromFd = AT_FDCWD): void {
  checked(libc.linkat(fromFd, cstring(from), AT_FDCWD, cstring(to), flags), "link", to);
}

/** mknod(2); `mode` has the kind, `rdev` is major * 256 + minor for small numbers. */
export function mknod(path: RawPath, mode: number, rdev = 0): void {
  checked(libc.mknod(cstring(path), mode, BigInt(rdev)), "mknod", path);
}

export function chmod(path: RawPath, mode: number): void {
  checked(libc.chmod(cstring(path), mode), "chmod", path);
}

export function fchmod(fd: number, mode: number): void {
  checked(libc.fchmod(fd, mode), "fchmod");
}

/** fchownat(2); flags: AT_SYMLINK_NOFOLLOW for lchown. */
export function chown(path: RawPath, uid: number, gid: number, flags = 0): void {
  checked(libc.fchownat(AT_FDCWD, cstring(path), uid, gid, flags), "chown", path);
}

export function fchown(fd: number, uid: number, gid: number): void {
  checked(libc.fchown(fd, uid, gid), "fchown");
}

function timespecs(times: readonly Time[]): Uint8Array<ArrayBuffer> {
  const words = times.flatMap((time) => {
    if (time === "now") return [0n, (1n << 30n) - 1n];
    if (time === "omit") return [0n, (1n << 30n) - 2n];
    const nanoseconds = ((time % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
    return [(time - nanoseconds) / 1_000_000_000n, nanoseconds];
  });
  return new Uint8Array(new BigInt64Array(words).buffer);
}

/** utimensat(2); flags: AT_SYMLINK_NOFOLLOW. Without times both are the present (NULL). */
export function utimens(path: RawPath, times: readonly [Time, Time] | null, flags = 0): void {
  const buffer = times === null ? null : timespecs(times);
  checked(libc.utimensat(AT_FDCWD, cstring(path), buffer, flags), "utimensat", path);
}

export function futimens(fd: number, times: readonly [Time, Time] | null): void {
  const buffer = times === null ? null : timespecs(times);
  checked(libc.futimens(fd, buffer), "futimens");
}

export function truncate(path: RawPath, size: number | bigint): void {
  checked(libc.truncate(cstring(path), BigInt(size)), "truncate", path);
}

export function ftruncate(fd: number, size: number | bigint): void {
  checked(libc.ftruncate(fd, BigInt(size)), "ftruncate");
}

/** fallocate(2); mode: a sum of FALLOC_*. */
export function fallocate(
  fd: number,
  mode: number,
  offset: number | bigint,
  length: number | bigint,
): void {
  checked(libc.fallocate(fd, mode, BigInt(offset), BigInt(length)), "fallocate");
}

export function fsync(fd: number): void {
  checked(libc.fsync(fd), "fsync");
}

export function fdatasync(fd: number): void {
  checked(libc.fdatasync(fd), "fdatasync");
}

export function chdir(path: RawPath): void {
  checked(libc.chdir(cstring(path)), "chdir", path);
}

export function fchdir(fd: number): void {
  checked(libc.fchdir(fd), "fchdir");
}

/** Returns the mask before. */
export function umask(mask: number): number {
  return libc.umask(mask);
}

/** What statfs(2) says; counts are in blocks and inodes. */
export interface RawStatfs {
  blockSize: number;
  blocks: number;
  blocksFree: number;
  blocksAvailable: number;
  files: number;
  filesFree: number;
  nameMax: number;
}

export function statfs(path: RawPath): RawStatfs {
  const buffer = new Uint8Array(128);
  checked(libc.statfs(cstring(path), buffer), "statfs", path);
  const view = new DataView(buffer.buffer);
  const word = (at: number) => Number(view.getBigUint64(at, true));
  return {
    blockSize: word(8),
    blocks: word(16),
    blocksFree: word(24),
    blocksAvailable: word(32),
    files: word(40),
    filesFree: word(48),
    nameMax: word(64),
  };
}

// Extended attributes; of the link itself where the path is one. A null buffer asks for the size.

/** lsetxattr(2); flags: XATTR_*. */
export function setxattr(
  path: RawPath,
  name: RawPath,
  value: Uint8Array<ArrayBuffer>,
  flags = 0,
): void {
  const length = BigInt(value.length);
  checked(libc.lsetxattr(cstring(path), cstring(name), value, length, flags), "setxattr", path);
}

/** lgetxattr(2) into `buffer`: the size of the value. */
export function getxattr(
  path: RawPath,
  name: RawPath,
  buffer: Uint8Array<ArrayBuffer> | null,
): number {
  const length = BigInt(buffer?.length ?? 0);
  return checked(libc.lgetxattr(cstring(path), cstring(name), buffer, length), "getxattr", path);
}

/** llistxattr(2) into `buffer`: the size of the list, each name with a NUL behind it. */
export function listxattr(path: RawPath, buffer: Uint8Array<ArrayBuffer> | null): number {
  const length = BigInt(buffer?.length ?? 0);
  return checked(libc.llistxattr(cstring(path), buffer, length), "listxattr", path);
}

export function removexattr(path: RawPath, name: RawPath): void {
  checked(libc.lremovexattr(cstring(path), cstring(name)), "removexattr", path);
}

/** chown of a link itself. */
export function lchown(path: RawPath, uid: number, gid: number): void {
  chown(path, uid, gid, AT_SYMLINK_NOFOLLOW);
}
