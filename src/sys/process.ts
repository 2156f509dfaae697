/** What this process is and holds: ids, working directory, standard error, locks, /proc. */

import { ERRNO } from "../errno.ts";
import { closeFd, O, openFd, readFd } from "./fd.ts";
import { cString, errno, lastError, libc } from "./libc.ts";

export function effectiveUid(): number {
  return libc.geteuid();
}

export function effectiveGid(): number {
  return libc.getegid();
}

/** Throws FsError. */
export function changeDirectory(path: string): void {
  if (libc.chdir(cString(path)) !== 0) throw lastError(`chdir ${path}`);
}

/** Returns the mask before. */
export function setUmask(mask: number): number {
  return libc.umask(mask);
}

/** lchown(2): a link in its place is changed itself, not what it names. Throws FsError. */
export function changeOwner(path: string, uid: number, gid: number): void {
  if (libc.lchown(cString(path), uid, gid) !== 0) throw lastError(`lchown ${path}`);
}

const W_OK = 2;

/** access(2) with the real ids: whether this process may write there. */
export function isWritable(path: string): boolean {
  return libc.access(cString(path), W_OK) === 0;
}

const LOCK_EX = 2;
const LOCK_NB = 4;

/**
 * Takes an exclusive flock on a file, made 0600 if absent. It ends with `close` or the process,
 * however that dies. Null: somebody else holds it. Throws FsError.
 */
export function lockFile(path: string): { close(): void } | null {
  const fd = openFd(path, O.RDWR | O.CREAT, 0o600);
  if (libc.flock(fd, LOCK_EX | LOCK_NB) !== 0) {
    const held = errno() === ERRNO.EAGAIN;
    const error = lastError(`flock ${path}`);
    closeFd(fd);
    if (held) return null;
    throw error;
  }
  return { close: () => closeFd(fd) };
}

/** Another one after each start of the machine (proc_sys_kernel(5), random). Throws FsError. */
export function bootId(): string {
  return readProcFile("/proc/sys/kernel/random/boot_id").trim();
}

/** A whole small file, read by libc: Deno refuses /proc, /sys and /dev. Throws FsError. */
export function readProcFile(path: string): string {
  const fd = openFd(path, O.RDONLY);
  try {
    const decoder = new TextDecoder();
    const chunk = new Uint8Array(65536);
    let text = "";
    for (;;) {
      const count = readFd(fd, chunk);
      if (count === -ERRNO.EINTR) continue;
      if (count <= 0) return text + decoder.decode();
      text += decoder.decode(chunk.subarray(0, count), { stream: true });
    }
  } finally {
    closeFd(fd);
  }
}

/**
 * The name that this program was started by (argv[0]), without folders; "" where nothing says it.
 * Only at the start: the file
 * is read from our own memory, which must have no page of a mount of ours then.
 */
export function programName(): string {
  try {
    const [argv0 = ""] = readProcFile("/proc/self/cmdline").split("\0");
    return argv0.slice(argv0.lastIndexOf("/") + 1);
  } catch {
    return "";
  }
}

/** `6.18.44` and so on. Throws FsError. */
export function kernelRelease(): string {
  return readProcFile("/proc/sys/kernel/osrelease").trim();
}
