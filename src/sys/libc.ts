/**
 * The one table of libc functions. Opened at module load, so that a thread pays once and no test
 * counts it as a leak. errno is per thread: read it straight after the call, in the same thread.
 */

import { ERRNO, errnoName, FsError } from "../errno.ts";

const library = Deno.dlopen(Deno.build.os === "darwin" ? "libSystem.dylib" : "libc.so.6", {
  // int open(const char *path, int flags, mode_t mode)
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  // int fcntl(int fd, int op, int arg)
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
  pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
  openat: { parameters: ["i32", "buffer", "i32", "u32"], result: "i32" },
  // long syscall(long number, ...): for what libc has no function of, or not everywhere.
  openat2: {
    name: "syscall",
    parameters: ["i64", "i64", "buffer", "buffer", "usize"],
    result: "i64",
  },
  getdents64: { name: "syscall", parameters: ["i64", "i64", "buffer", "usize"], result: "i64" },
  unlinkat: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  // int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *out)
  statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  fallocate: { parameters: ["i32", "i32", "i64", "i64"], result: "i32" },
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  // int futimens(int fd, const struct timespec times[2])
  futimens: { parameters: ["i32", "buffer"], result: "i32" },
  fsync: { parameters: ["i32"], result: "i32" },
  fdatasync: { parameters: ["i32"], result: "i32" },
  // ssize_t copy_file_range(int in, off_t *inAt, int out, off_t *outAt, size_t, unsigned flags)
  copy_file_range: {
    parameters: ["i32", "buffer", "i32", "buffer", "usize", "u32"],
    result: "isize",
  },
  // int clock_gettime(clockid_t clock, struct timespec *out)
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  // int poll(struct pollfd *fds, nfds_t count, int timeoutMs)
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32" },
  // On a thread of Deno's pool.
  pollAside: {
    name: "poll",
    parameters: ["buffer", "u64", "i32"],
    result: "i32",
    nonblocking: true,
  },
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  // int socketpair(int domain, int type, int protocol, int fds[2])
  socketpair: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  // ssize_t recvmsg(int socket, struct msghdr *message, int flags)
  recvmsg: { parameters: ["i32", "buffer", "i32"], result: "isize" },
  // int posix_spawn(pid_t *, const char *path, actions *, attributes *, char *argv[], *envp[])
  posix_spawn: {
    parameters: ["buffer", "buffer", "buffer", "buffer", "buffer", "buffer"],
    result: "i32",
  },
  posix_spawn_file_actions_init: { parameters: ["buffer"], result: "i32" },
  posix_spawn_file_actions_addopen: {
    parameters: ["buffer", "i32", "buffer", "i32", "u32"],
    result: "i32",
  },
  posix_spawn_file_actions_adddup2: { parameters: ["buffer", "i32", "i32"], result: "i32" },
  posix_spawn_file_actions_destroy: { parameters: ["buffer"], result: "i32" },
  posix_spawnattr_init: { parameters: ["buffer"], result: "i32" },
  posix_spawnattr_setflags: { parameters: ["buffer", "i16"], result: "i32" },
  posix_spawnattr_destroy: { parameters: ["buffer"], result: "i32" },
  // pid_t waitpid(pid_t pid, int *status, int options)
  waitpid: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  kill: { parameters: ["i32", "i32"], result: "i32" },
  getenv: { parameters: ["buffer"], result: "pointer" },
  // int mount(const char *source, *target, *type, unsigned long flags, const void *data)
  mount: { parameters: ["buffer", "buffer", "buffer", "u64", "buffer"], result: "i32" },
  umount2: { parameters: ["buffer", "i32"], result: "i32" },
  // On a thread of Deno's pool, for what may wait for our own reply. Their errno is lost.
  writeAside: {
    name: "write",
    parameters: ["i32", "buffer", "usize"],
    result: "isize",
    nonblocking: true,
  },
  umount2Aside: {
    name: "umount2",
    parameters: ["buffer", "i32"],
    result: "i32",
    nonblocking: true,
  },
  openAside: {
    name: "open",
    parameters: ["buffer", "i32", "u32"],
    result: "i32",
    nonblocking: true,
  },
  syncfsAside: { name: "syncfs", parameters: ["i32"], result: "i32", nonblocking: true },
  // int statvfs(const char *path, struct statvfs *out)
  statvfs: { parameters: ["buffer", "buffer"], result: "i32" },
  lchown: { parameters: ["buffer", "u32", "u32"], result: "i32" },
  access: { parameters: ["buffer", "i32"], result: "i32" },
  flock: { parameters: ["i32", "i32"], result: "i32" },
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  // ssize_t sendto(int fd, const void *bytes, size_t, int flags, sockaddr *, socklen_t)
  sendto: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"], result: "isize" },
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
