/**
 * Calls of processes among themselves, by libc over FFI, as raw_fs.ts does for files: identity,
 * programs, locks, inotify, sockets, the clock. Failures throw RawFsError with a positive errno.
 */
import {
  type ByteString,
  checked,
  cstring,
  fromBytes,
  O_CLOEXEC,
  O_NONBLOCK,
  RawFsError,
  type RawPath,
  read,
  toBytes,
} from "./raw_fs.ts";

export const LOCK_SH = 1;
export const LOCK_EX = 2;
export const LOCK_NB = 4;
export const LOCK_UN = 8;
export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;
export const F_GETLK = 5;
export const F_SETLK = 6;
export const F_SETLKW = 7;
export const F_OFD_SETLK = 37;
export const F_GETFL = 3;
export const F_SETFL = 4;
export const IN_MODIFY = 0x2;
export const IN_ATTRIB = 0x4;
export const IN_CLOSE_WRITE = 0x8;
export const IN_MOVED_FROM = 0x40;
export const IN_MOVED_TO = 0x80;
export const IN_CREATE = 0x100;
export const IN_DELETE = 0x200;
export const IN_DELETE_SELF = 0x400;
export const IN_MOVE_SELF = 0x800;
export const IN_ISDIR = 0x4000_0000;

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const CLOCK_REALTIME = 0;
const SIGKILL = 9;

const libc = Deno.dlopen("libc.so.6", {
  setgroups: { parameters: ["usize", "buffer"], result: "i32" },
  setresgid: { parameters: ["u32", "u32", "u32"], result: "i32" },
  setresuid: { parameters: ["u32", "u32", "u32"], result: "i32" },
  posix_spawn: {
    parameters: ["buffer", "buffer", "pointer", "pointer", "buffer", "buffer"],
    result: "i32",
  },
  waitpid: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  kill: { parameters: ["i32", "i32"], result: "i32" },
  flock: { parameters: ["i32", "i32"], result: "i32" },
  fcntl: { parameters: ["i32", "i32", "buffer"], result: "i32" },
  fcntlInt: { name: "fcntl", parameters: ["i32", "i32", "i64"], result: "i32" },
  inotify_init1: { parameters: ["i32"], result: "i32" },
  inotify_add_watch: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  listen: { parameters: ["i32", "i32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  accept4: { parameters: ["i32", "pointer", "pointer", "i32"], result: "i32" },
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
}).symbols;

/**
 * Gives up root, in every thread and for ever. Throws RawFsError for who is not root.
 */
export function becomeUser(uid: number, gid: number, groups: readonly number[]): void {
  const list = new Uint8Array(new Uint32Array([...groups, 0]).buffer);
  checked(libc.setgroups(BigInt(groups.length), list), "setgroups");
  checked(libc.setresgid(gid, gid, gid), "setresgid");
  checked(libc.setresuid(uid, uid, uid), "setresuid");
}

/** Nanoseconds since the epoch. */
export function realtimeNs(): bigint {
  const words = new BigInt64Array(2);
  checked(libc.clock_gettime(CLOCK_REALTIME, new Uint8Array(words.buffer)), "clock_gettime");
  return (words[0] ?? 0n) * 1_000_000_000n + (words[1] ?? 0n);
}

/** Addresses of NUL-terminated strings, for argv and envp; `texts` must stay referenced. */
function pointers(texts: readonly Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> {
  const words = texts.map((text) => BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(text))));
  return new Uint8Array(new BigUint64Array([...words, 0n]).buffer);
}

/** posix_spawn(3) with an environment of PATH alone: the pid, for `waitFor`. */
export function spawn(path: RawPath, args: readonly RawPath[]): number {
  const argv = [path, ...args].map(cstring);
  const envp = [cstring("PATH=/usr/bin:/bin")];
  const pid = new Int32Array(1);
  const failed = libc.posix_spawn(
    new Uint8Array(pid.buffer),
    cstring(path),
    null,
    null,
    pointers(argv),
    pointers(envp),
  );
  if (failed !== 0) throw new RawFsError("posix_spawn", failed, path);
  return pid[0] ?? -1;
}

/** Waits for a child of `spawn`: its exit code, 128 + n when signal n has ended it. */
export function waitFor(pid: number): number {
  const status = new Int32Array(1);
  checked(libc.waitpid(pid, new Uint8Array(status.buffer), 0), "waitpid");
  const word = status[0] ?? 0;
  return (word & 0x7f) === 0 ? (word >> 8) & 0xff : 128 + (word & 0x7f);
}

export function kill(pid: number, signal = SIGKILL): void {
  checked(libc.kill(pid, signal), "kill");
}

export function flock(fd: number, operation: number): void {
  checked(libc.flock(fd, operation), "flock");
}

/** A record lock: F_RDLCK, F_WRLCK or F_UNLCK on bytes from `start`, `length` 0: to the end. */
export interface RecordLock {
  type: number;
  start: number;
  length: number;
}

/** fcntl(2) with F_SETLK, F_SETLKW, F_GETLK or F_OFD_SETLK. Returns the lock as F_GETLK left it. */
export function recordLock(fd: number, command: number, lock: RecordLock): RecordLock {
  const buffer = new Uint8Array(32);
  const view = new DataView(buffer.buffer);
  view.setInt16(0, lock.type, true);
  view.setBigInt64(8, BigInt(lock.start), true);
  view.setBigInt64(16, BigInt(lock.length), true);
  checked(libc.fcntl(fd, command, buffer), "fcntl");
  return {
    type: view.getInt16(0, true),
    start: Number(view.getBigInt64(8, true)),
    length: Number(view.getBigInt64(16, true)),
  };
}

/** fcntl(2) with F_GETFL or F_SETFL. */
export function statusFlags(fd: number, command: number, flags = 0): number {
  return checked(libc.fcntlInt(fd, command, BigInt(flags)), "fcntl");
}

/** A new inotify instance that does not block. */
export function inotify(): number {
  return checked(libc.inotify_init1(O_CLOEXEC | O_NONBLOCK), "inotify_init1");
}

/** inotify_add_watch(2): the watch's number. */
export function addWatch(fd: number, path: RawPath, mask: number): number {
  return checked(libc.inotify_add_watch(fd, cstring(path), mask), "inotify_add_watch", path);
}

export interface WatchEvent {
  watch: number;
  mask: number;
  /** The same in both halves of a rename, else 0. */
  cookie: number;
  name: ByteString;
}

/** The events that one read(2) of an inotify descriptor gives. EAGAIN when there are none. */
export function readEvents(fd: number): WatchEvent[] {
  const buffer = new Uint8Array(65536);
  const n = read(fd, buffer);
  const view = new DataView(buffer.buffer);
  const events: WatchEvent[] = [];
  for (let at = 0; at < n;) {
    const length = view.getUint32(at + 12, true);
    const name = buffer.subarray(at + 16, at + 16 + length);
    const end = name.indexOf(0);
    events.push({
      watch: view.getInt32(at, true),
      mask: view.getUint32(at + 4, true),
      cookie: view.getUint32(at + 8, true),
      name: fromBytes(end < 0 ? name : name.subarray(0, end)),
    });
    at += 16 + length;
  }
  return events;
}

function unixAddress(path: RawPath): Uint8Array<ArrayBuffer> {
  const name = typeof path === "string" ? toBytes(path) : path;
  const out = new Uint8Array(2 + name.length + 1);
  out[0] = AF_UNIX;
  out.set(name, 2);
  return out;
}

/** A unix socket that is bound to a path and listens. */
export function listenUnix(path: RawPath): number {
  const fd = checked(libc.socket(AF_UNIX, SOCK_STREAM | O_CLOEXEC, 0), "socket");
  const address = unixAddress(path);
  checked(libc.bind(fd, address, address.length), "bind", path);
  checked(libc.listen(fd, 4), "listen", path);
  return fd;
}

export function connectUnix(path: RawPath): number {
  const fd = checked(libc.socket(AF_UNIX, SOCK_STREAM | O_CLOEXEC, 0), "socket");
  const address = unixAddress(path);
  checked(libc.connect(fd, address, address.length), "connect", path);
  return fd;
}

/** The next connection of a socket that listens. */
export function accept(fd: number): number {
  return checked(libc.accept4(fd, null, null, O_CLOEXEC), "accept4");
}
