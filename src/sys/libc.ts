/**
 * The one table of libc functions. Opened at module load, so that a thread pays once and no test
 * counts it as a leak. errno is per thread: read it straight after the call, in the same thread.
 */

import { ERRNO, errnoName, FsError } from "../errno.ts";

const library = Deno.dlopen(Deno.build.os === "darwin" ? "libSystem.dylib" : "libc.so.6", {
  // int open(const char *path, int flags, mode_t mode)
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
  // int poll(struct pollfd *fds, nfds_t count, int timeoutMs)
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32" },
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  // int mount(const char *source, *target, *type, unsigned long flags, const void *data)
  mount: { parameters: ["buffer", "buffer", "buffer", "u64", "buffer"], result: "i32" },
  umount2: { parameters: ["buffer", "i32"], result: "i32" },
  // int statvfs(const char *path, struct statvfs *out)
  statvfs: { parameters: ["buffer", "buffer"], result: "i32" },
  lchown: { parameters: ["buffer", "u32", "u32"], result: "i32" },
  access: { parameters: ["buffer", "i32"], result: "i32" },
  flock: { parameters: ["i32", "i32"], result: "i32" },
  chdir: { parameters: ["buffer"], result: "i32" },
  umask: { parameters: ["u32"], result: "u32" },
  geteuid: { parameters: [], result: "u32" },
  getegid: { parameters: [], result: "u32" },
  __errno_location: { parameters: [], result: "pointer" },
});

export const libc = library.symbols;

/** errno of this thread's last failed call. */
export function errno(): number {
  const pointer = libc.__errno_location();
  if (pointer === null) return ERRNO.EIO;
  return new Deno.UnsafePointerView(pointer).getInt32();
}

/** FsError with this thread's errno; `what` says which call on what. */
export function lastError(what: string): FsError {
  const number = errno();
  return new FsError(number, `${what}: ${errnoName(number)}`);
}

const utf8 = new TextEncoder();

/** A NUL-terminated string for C. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  return utf8.encode(`${text}\0`);
}
