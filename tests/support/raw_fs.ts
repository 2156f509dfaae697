/**
 * File access by libc over FFI, exact to the byte and to the errno, for looking at a mount as a C
 * program would. Deno's own file API decodes names, hides errno numbers and gives no descriptors.
 *
 * Names and paths are *byte strings*: strings with one UTF-16 unit (0..255) per byte. They compare,
 * sort and key a Map by bytes. `fromUtf8` makes one of ordinary text. Every function that takes a
 * path takes a byte string or a Uint8Array. Failures throw RawFsError with a positive errno.
 *
 * Linux with glibc, x86_64 and aarch64 only. The calls are synchronous: a process that holds a
 * mount's daemon must not use them on that mount.
 */
import { constants as osConstants } from "node:os";

/** One string unit (0..255) per byte; see the module's head. */
export type ByteString = string;
export type RawPath = ByteString | Uint8Array;

const arm = Deno.build.arch === "aarch64";

export const O_RDONLY = 0;
export const O_WRONLY = 1;
export const O_RDWR = 2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_NONBLOCK = 0o4000;
export const O_DIRECT = arm ? 0o200000 : 0o40000;
export const O_DIRECTORY = arm ? 0o40000 : 0o200000;
export const O_NOFOLLOW = arm ? 0o100000 : 0o400000;
export const O_NOATIME = 0o1000000;
export const O_CLOEXEC = 0o2000000;
export const O_PATH = 0o10000000;
export const O_TMPFILE = 0o20000000 | O_DIRECTORY;
export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_EACCESS = 0x200;
export const AT_REMOVEDIR = 0x200;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_EMPTY_PATH = 0x1000;
export const SEEK_SET = 0;
export const SEEK_CUR = 1;
export const SEEK_END = 2;
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;
export const S_IFMT = 0o170000;
export const S_IFIFO = 0o010000;
export const S_IFCHR = 0o020000;
export const S_IFDIR = 0o040000;
export const S_IFBLK = 0o060000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;
export const S_IFSOCK = 0o140000;
export const DT_UNKNOWN = 0;
export const DT_DIR = 4;
export const DT_REG = 8;
export const DT_LNK = 10;
/** Longest path the kernel takes in one call, with its NUL. */
export const PATH_MAX = 4096;

const PROT_READ = 1;
const PROT_WRITE = 2;
const MS_SYNC = 4;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

const libc = Deno.dlopen("libc.so.6", {
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  openat: { parameters: ["i32", "buffer", "i32", "u32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
  readlinkat: { parameters: ["i32", "buffer", "buffer", "usize"], result: "isize" },
  getdents64: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  faccessat: { parameters: ["i32", "buffer", "i32", "i32"], result: "i32" },
  mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  munmap: { parameters: ["pointer", "usize"], result: "i32" },
  msync: { parameters: ["pointer", "usize", "i32"], result: "i32" },
  sendfile: { parameters: ["i32", "i32", "buffer", "usize"], result: "isize" },
  copy_file_range: {
    parameters: ["i32", "buffer", "i32", "buffer", "usize", "u32"],
    result: "isize",
  },
  __errno_location: { parameters: [], result: "pointer" },
}).symbols;

/**
 * A failed call: `errno` is positive, `call` names the function, `path` its argument if it had one.
 */
export class RawFsError extends Error {
  override name = "RawFsError";
  readonly errno: number;
  readonly call: string;
  constructor(call: string, errno: number, path?: RawPath) {
    const where = path === undefined ? "" : ` ${printable(path)}`;
    super(`${call}${where}: ${errnoName(errno)}`);
    this.errno = errno;
    this.call = call;
  }
}

const ERRNO_NAMES = new Map<number, string>();
for (const [name, value] of Object.entries(osConstants.errno)) {
  if (!ERRNO_NAMES.has(value)) ERRNO_NAMES.set(value, name);
}
// Of its two names the one that file systems use.
ERRNO_NAMES.set(osConstants.errno.EOPNOTSUPP, "EOPNOTSUPP");

/** "ENOENT" for 2; "errno 9999" for a number without a name. */
export function errnoName(errno: number): string {
  return ERRNO_NAMES.get(errno) ?? `errno ${errno}`;
}

/** The errno a call fails with, as a name; "" when it succeeds. Other exceptions pass through. */
export function errnoOf(call: () => unknown): string {
  try {
    call();
    return "";
  } catch (error) {
    if (error instanceof RawFsError) return errnoName(error.errno);
    throw error;
  }
}

function lastErrno(): number {
  return new Deno.UnsafePointerView(libc.__errno_location()!).getInt32();
}

/** The result of a call as a number. Throws RawFsError with this thread's errno if it is negative. */
export function checked(result: number | bigint, call: string, path?: RawPath): number {
  if (result < 0) throw new RawFsError(call, lastErrno(), path);
  return Number(result);
}

// Byte strings.

/** Bytes to byte string. */
export function fromBytes(bytes: Uint8Array): ByteString {
  let out = "";
  for (let at = 0; at < bytes.length; at += 4096) {
    out += String.fromCharCode(...bytes.subarray(at, at + 4096));
  }
  return out;
}

/**
 * Byte string to bytes. Throws TypeError when a unit is above 255 (text that was never encoded).
 */
export function toBytes(text: ByteString): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit > 255) throw new TypeError(`not a byte string: ${text}`);
    out[i] = unit;
  }
  return out;
}

/** Ordinary text (a path Deno gave, a literal) to the byte string of its UTF-8 form. */
export function fromUtf8(text: string): ByteString {
  return fromBytes(new TextEncoder().encode(text));
}

/**
 * For messages: as UTF-8 where that is possible, `\xNN` for the rest and for control characters.
 */
export function printable(path: RawPath): string {
  const bytes = typeof path === "string" ? toBytes(path) : path;
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    // deno-lint-ignore no-control-regex
    if (!/[\x00-\x1f\x7f\\]/.test(text)) return text;
  } catch {
    // not UTF-8
  }
  let out = "";
  for (const byte of bytes) {
    out += byte >= 0x20 && byte < 0x7f && byte !== 0x5c
      ? String.fromCharCode(byte)
      : "\\x" + byte.toString(16).padStart(2, "0");
  }
  return out;
}

/** With a NUL at its end. Throws TypeError for one within. */
export function cstring(path: RawPath): Uint8Array<ArrayBuffer> {
  const bytes = typeof path === "string" ? toBytes(path) : path;
  if (bytes.includes(0)) throw new TypeError("NUL in a path");
  const out = new Uint8Array(bytes.length + 1);
  out.set(bytes);
  return out;
}

// Calls.

/** open(2), O_CLOEXEC added. Returns a descriptor for `close`. */
export function open(path: RawPath, flags = O_RDONLY, mode = 0o644): number {
  return checked(libc.open(cstring(path), flags | O_CLOEXEC, mode), "open", path);
}

/** openat(2), O_CLOEXEC added. */
export function openat(dirFd: number, name: RawPath, flags = O_RDONLY, mode = 0o644): number {
  return checked(libc.openat(dirFd, cstring(name), flags | O_CLOEXEC, mode), "openat", name);
}

export function close(fd: number): void {
  checked(libc.close(fd), "close");
}

/** One read(2): fills at most `buffer`, returns the number of bytes, 0 at the end. */
export function read(fd: number, buffer: Uint8Array<ArrayBuffer>): number {
  return checked(libc.read(fd, buffer, BigInt(buffer.length)), "read");
}

/** One pread(2). */
export function pread(fd: number, buffer: Uint8Array<ArrayBuffer>, offset: number): number {
  return checked(libc.pread(fd, buffer, BigInt(buffer.length), BigInt(offset)), "pread");
}

/** One write(2). */
export function write(fd: number, bytes: Uint8Array<ArrayBuffer>): number {
  return checked(libc.write(fd, bytes, BigInt(bytes.length)), "write");
}

/** One pwrite(2). */
export function pwrite(fd: number, bytes: Uint8Array<ArrayBuffer>, offset: number): number {
  return checked(libc.pwrite(fd, bytes, BigInt(bytes.length), BigInt(offset)), "pwrite");
}

/** lseek(2): the new offset. */
export function lseek(fd: number, offset: number, whence: number): number {
  return checked(libc.lseek(fd, BigInt(offset), whence), "lseek");
}

/** All bytes of a file, by reads of `chunkBytes`. */
export function readFile(path: RawPath, chunkBytes = 65536, dirFd = AT_FDCWD): Uint8Array {
  const fd = openat(dirFd, path, O_RDONLY);
  try {
    const parts: Uint8Array[] = [];
    let length = 0;
    for (;;) {
      const buffer = new Uint8Array(chunkBytes);
      const n = read(fd, buffer);
      if (n === 0) break;
      parts.push(buffer.subarray(0, n));
      length += n;
    }
    const out = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  } finally {
    close(fd);
  }
}

/** What statx(2) says. Times are nanoseconds since the epoch; `blocks` counts 512-byte units. */
export interface RawStat {
  ino: bigint;
  /** Kind and permission bits, as st_mode. */
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  size: number;
  blocks: number;
  blksize: number;
  /** major * 2^32 + minor. */
  dev: bigint;
  rdev: bigint;
  atimeNs: bigint;
  mtimeNs: bigint;
  ctimeNs: bigint;
}

const STATX_BASIC_STATS = 0x7ff;
const statxBuffer = new Uint8Array(256);
const statxView = new DataView(statxBuffer.buffer);
const EMPTY = new Uint8Array(1);

function decodeStat(): RawStat {
  const v = statxView;
  const time = (at: number) =>
    v.getBigInt64(at, true) * 1_000_000_000n + BigInt(v.getUint32(at + 8, true));
  const device = (at: number) =>
    (BigInt(v.getUint32(at, true)) << 32n) | BigInt(v.getUint32(at + 4, true));
  return {
    blksize: v.getUint32(4, true),
    nlink: v.getUint32(16, true),
    uid: v.getUint32(20, true),
    gid: v.getUint32(24, true),
    mode: v.getUint16(28, true),
    ino: v.getBigUint64(32, true),
    size: Number(v.getBigUint64(40, true)),
    blocks: Number(v.getBigUint64(48, true)),
    atimeNs: time(64),
    ctimeNs: time(96),
    mtimeNs: time(112),
    rdev: device(128),
    dev: device(136),
  };
}

/** fstatat(2) by statx(2). `flags`: AT_SYMLINK_NOFOLLOW for lstat. */
export function statAt(dirFd: number, name: RawPath, flags = 0): RawStat {
  const result = libc.statx(dirFd, cstring(name), flags, STATX_BASIC_STATS, statxBuffer);
  checked(result, "statx", name);
  return decodeStat();
}

/** lstat(2). */
export function lstat(path: RawPath): RawStat {
  return statAt(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW);
}

export function stat(path: RawPath): RawStat {
  return statAt(AT_FDCWD, path);
}

export function fstat(fd: number): RawStat {
  checked(libc.statx(fd, EMPTY, AT_EMPTY_PATH, STATX_BASIC_STATS, statxBuffer), "fstat");
  return decodeStat();
}

const STATX_BTIME = 0x800;

/** When something was made, nanoseconds since the epoch; links are not followed. */
export function bornNs(dirFd: number, name: RawPath): bigint {
  const flags = AT_SYMLINK_NOFOLLOW;
  checked(libc.statx(dirFd, cstring(name), flags, STATX_BTIME, statxBuffer), "statx", name);
  return statxView.getBigInt64(80, true) * 1_000_000_000n + BigInt(statxView.getUint32(88, true));
}

const linkBuffer = new Uint8Array(PATH_MAX * 2);

/** readlinkat(2): the target's bytes. */
export function readlinkAt(dirFd: number, name: RawPath): Uint8Array<ArrayBuffer> {
  const n = checked(
    libc.readlinkat(dirFd, cstring(name), linkBuffer, BigInt(linkBuffer.length)),
    "readlink",
    name,
  );
  return linkBuffer.slice(0, n);
}

export function readlink(path: RawPath): Uint8Array<ArrayBuffer> {
  return readlinkAt(AT_FDCWD, path);
}

/**
 * faccessat(2); `mode` is a sum of 4 (read), 2 (write), 1 (execute). Flags: AT_EACCESS for the
 * effective ids, AT_SYMLINK_NOFOLLOW.
 */
export function access(path: RawPath, mode: number, flags = 0): void {
  checked(libc.faccessat(AT_FDCWD, cstring(path), mode, flags), "access", path);
}

/** One entry as getdents64(2) gives it. */
export interface RawDirent {
  name: ByteString;
  ino: bigint;
  /** The cookie of the *next* entry. */
  offset: bigint;
  /** DT_*. */
  type: number;
}

/** One getdents64(2) call from the descriptor's present position; an empty list at the end. */
export function getdents(fd: number, buffer = new Uint8Array(32768)): RawDirent[] {
  const n = checked(libc.getdents64(fd, buffer, BigInt(buffer.length)), "getdents64");
  const view = new DataView(buffer.buffer, buffer.byteOffset, n);
  const entries: RawDirent[] = [];
  for (let at = 0; at < n;) {
    const length = view.getUint16(at + 16, true);
    let end = at + 19;
    while (buffer[end] !== 0) end++;
    entries.push({
      ino: view.getBigUint64(at, true),
      offset: view.getBigInt64(at + 8, true),
      type: buffer[at + 18] ?? DT_UNKNOWN,
      name: fromBytes(buffer.subarray(at + 19, end)),
    });
    at += length;
  }
  return entries;
}

/**
 * The rest of an open directory, `.` and `..` with it. `bufferBytes` sets the size of each call.
 */
export function readdirFd(fd: number, bufferBytes = 32768): RawDirent[] {
  const buffer = new Uint8Array(bufferBytes);
  const all: RawDirent[] = [];
  for (;;) {
    const part = getdents(fd, buffer);
    if (part.length === 0) return all;
    for (const entry of part) all.push(entry);
  }
}

/** A whole directory, `.` and `..` with it, in the file system's order. */
export function readdir(path: RawPath, bufferBytes = 32768): RawDirent[] {
  const fd = open(path, O_RDONLY | O_DIRECTORY);
  try {
    return readdirFd(fd, bufferBytes);
  } finally {
    close(fd);
  }
}

/** A mapping of a file. Do not touch `bytes` after `unmap`. */
export interface Mapping {
  bytes: Uint8Array<ArrayBuffer>;
  /** msync(2) with MS_SYNC: what was written through a shared mapping is in the file. */
  sync(): void;
  unmap(): void;
}

/**
 * Maps a part of a file, for reading unless `writable` is set. Touching pages beyond its end kills the
 * process (SIGBUS).
 */
export function mmap(
  fd: number,
  length: number,
  options: { offset?: number; shared?: boolean; writable?: boolean } = {},
): Mapping {
  const flags = options.shared ? MAP_SHARED : MAP_PRIVATE;
  const address = libc.mmap(
    null,
    BigInt(length),
    options.writable ? PROT_READ | PROT_WRITE : PROT_READ,
    flags,
    fd,
    BigInt(options.offset ?? 0),
  );
  if (address === null || BigInt(Deno.UnsafePointer.value(address)) === MAP_FAILED) {
    throw new RawFsError("mmap", lastErrno());
  }
  return {
    bytes: new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(address, length)),
    sync: () => void checked(libc.msync(address, BigInt(length), MS_SYNC), "msync"),
    unmap: () => void checked(libc.munmap(address, BigInt(length)), "munmap"),
  };
}

/** sendfile(2) from the in-descriptor's position, or from `offset`. Returns the bytes sent. */
export function sendfile(
  outFd: number,
  inFd: number,
  count: number,
  offset?: number,
): number {
  const at = offset === undefined ? null : new BigInt64Array([BigInt(offset)]);
  return checked(libc.sendfile(outFd, inFd, at, BigInt(count)), "sendfile");
}

/**
 * copy_file_range(2) between the two descriptors' positions, or the offsets given. Returns the
 * bytes copied.
 */
export function copyFileRange(
  inFd: number,
  outFd: number,
  count: number,
  at: { in?: number; out?: number } = {},
): number {
  const from = at.in === undefined ? null : new BigInt64Array([BigInt(at.in)]);
  const to = at.out === undefined ? null : new BigInt64Array([BigInt(at.out)]);
  return checked(
    libc.copy_file_range(inFd, from, outFd, to, BigInt(count), 0),
    "copy_file_range",
  );
}

/**
 * Opens a path of any length relative to a directory, in pieces below PATH_MAX.
 * "" opens the directory itself once more. Links in the middle of the path are followed.
 */
export function openDeep(dirFd: number, path: ByteString, flags: number): number {
  if (path === "") return openat(dirFd, ".", flags);
  let at = dirFd;
  let rest = path;
  try {
    while (rest.length > PATH_MAX - 96) {
      const cut = rest.lastIndexOf("/", PATH_MAX - 96);
      if (cut <= 0) break; // one name beyond the limit: the kernel will say ENAMETOOLONG
      const next = openat(at, rest.slice(0, cut), O_PATH | O_DIRECTORY);
      if (at !== dirFd) close(at);
      at = next;
      rest = rest.slice(cut + 1);
    }
    return openat(at, rest, flags);
  } finally {
    if (at !== dirFd) close(at);
  }
}

/** One entry met by `walk`. */
export interface WalkEntry {
  /** Relative to the walk's root; "" never. */
  path: ByteString;
  name: ByteString;
  /** Descriptor of the directory it is in, for the *At functions; closed when the walk moves on. */
  dirFd: number;
  dirent: RawDirent;
  stat: RawStat;
}

/**
 * Visits everything below a directory, parents before children, links not followed, `.` and `..`
 * left out. Works by descriptors, so depth is limited by open files (one per level) and not by
 * PATH_MAX. `sort` orders each directory's entries; without it the file system's order counts.
 */
export function* walk(
  root: RawPath,
  sort?: (entries: RawDirent[]) => RawDirent[],
): Generator<WalkEntry, void, void> {
  const fd = open(root, O_RDONLY | O_DIRECTORY);
  try {
    yield* walkFd(fd, "", sort);
  } finally {
    close(fd);
  }
}

function* walkFd(
  dirFd: number,
  prefix: ByteString,
  sort: ((entries: RawDirent[]) => RawDirent[]) | undefined,
): Generator<WalkEntry, void, void> {
  let entries = readdirFd(dirFd).filter((entry) => entry.name !== "." && entry.name !== "..");
  if (sort !== undefined) entries = sort(entries);
  for (const dirent of entries) {
    const path = prefix + dirent.name;
    const entryStat = statAt(dirFd, dirent.name, AT_SYMLINK_NOFOLLOW);
    yield { path, name: dirent.name, dirFd, dirent, stat: entryStat };
    if ((entryStat.mode & S_IFMT) !== S_IFDIR) continue;
    const fd = openat(dirFd, dirent.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    try {
      yield* walkFd(fd, path + "/", sort);
    } finally {
      close(fd);
    }
  }
}
