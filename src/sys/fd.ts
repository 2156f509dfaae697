/**
 * Descriptors of the kernel. Deno's own file resources are numbered differently, so the two worlds
 * are never mixed: what is opened here is read, written and closed here.
 */

import { ERRNO } from "../errno.ts";
import { cString, errno, lastError, libc } from "./libc.ts";

/** open(2) flags. The last two differ by architecture (include/uapi/asm-generic/fcntl.h, arch/arm64). */
export const O = {
  RDONLY: 0,
  WRONLY: 1,
  RDWR: 2,
  CREAT: 0o100,
  EXCL: 0o200,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  CLOEXEC: 0o2000000,
  PATH: 0o10000000,
  DIRECTORY: Deno.build.arch === "aarch64" ? 0o40000 : 0o200000,
  NOFOLLOW: Deno.build.arch === "aarch64" ? 0o100000 : 0o400000,
} as const;

/** Throws FsError. */
export function openFd(path: string, flags: number, mode = 0): number {
  const fd = libc.open(cString(path), flags | O.CLOEXEC, mode);
  if (fd < 0) throw lastError(`open ${path}`);
  return fd;
}

export function closeFd(fd: number): void {
  libc.close(fd);
}

/** F_DUPFD_CLOEXEC. */
const DUPLICATE = 1030;

/** Another descriptor of the same open file. Throws FsError. */
export function duplicateFd(fd: number): number {
  const other = libc.fcntl(fd, DUPLICATE, 0);
  if (other < 0) throw lastError("fcntl");
  return other;
}

const GET_FLAGS = 3;
const SET_FLAGS = 4;

/** O_NONBLOCK, for the open file. Throws FsError. */
export function setNonBlocking(fd: number): void {
  const flags = libc.fcntl(fd, GET_FLAGS, 0);
  if (flags < 0 || libc.fcntl(fd, SET_FLAGS, flags | O.NONBLOCK) !== 0) throw lastError("fcntl");
}

/** Bytes read, or minus errno. */
export function readFd(fd: number, into: Uint8Array<ArrayBuffer>): number {
  const count = Number(libc.read(fd, into, BigInt(into.length)));
  return count >= 0 ? count : -errno();
}

/** Bytes written, or minus errno. */
export function writeFd(fd: number, from: Uint8Array<ArrayBuffer>): number {
  const count = Number(libc.write(fd, from, BigInt(from.length)));
  return count >= 0 ? count : -errno();
}

/** As writeFd, without blocking this thread, and nobody learns what came of it. */
export async function writeFdAside(fd: number, from: Uint8Array<ArrayBuffer>): Promise<void> {
  await libc.writeAside(fd, from, BigInt(from.length));
}

/** Fills `into` from `offset`; fewer bytes only at the end of the file. Throws FsError. */
export function preadFull(fd: number, into: Uint8Array<ArrayBuffer>, offset: number): number {
  let done = 0;
  while (done < into.length) {
    const part = into.subarray(done);
    const count = Number(libc.pread(fd, part, BigInt(part.length), BigInt(offset + done)));
    if (count < 0 && errno() === ERRNO.EINTR) continue;
    if (count < 0) throw lastError("pread");
    if (count === 0) break;
    done += count;
  }
  return done;
}

const POLLIN = 1;
const POLLFD_BYTES = 8;
const pollfds = new DataView(new ArrayBuffer(2 * POLLFD_BYTES));
const pollBytes = new Uint8Array(pollfds.buffer);

/**
 * Sleeps until one of two descriptors can be read, or the time is over (-1: none). Returns
 * whether the second can be read.
 */
export function pollTwo(fdA: number, fdB: number, timeoutMs: number): boolean {
  pollfds.setInt32(0, fdA, true);
  pollfds.setUint32(4, POLLIN, true);
  pollfds.setInt32(8, fdB, true);
  pollfds.setUint32(12, POLLIN, true);
  libc.poll(pollBytes, 2n, timeoutMs);
  return (pollfds.getUint16(POLLFD_BYTES + 6, true) & POLLIN) !== 0;
}

const EFD_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000;

/** A counter another thread can wake us with. Throws FsError. */
export function createEventFd(): number {
  const fd = libc.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) throw lastError("eventfd");
  return fd;
}

const one = new Uint8Array(new BigUint64Array([1n]).buffer);
const counter = new Uint8Array(8);

export function signalEventFd(fd: number): void {
  libc.write(fd, one, 8n);
}

/** Sets the counter back to zero. */
export function clearEventFd(fd: number): void {
  libc.read(fd, counter, 8n);
}
