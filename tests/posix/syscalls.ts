/**
 * The system calls that cases are written in. Paths are byte strings, relative to the case's
 * directory, which is the working directory. Descriptors and mappings have names that the case
 * chooses ("a"); what is still open when the case ends is closed. Results survive JSON and hold
 * nothing that differs between two file systems: no inode numbers, no absolute times.
 *
 * Every call throws RawFsError when it fails.
 */

import { createHash } from "node:crypto";
import * as change from "../support/raw_change.ts";
import * as proc from "../support/raw_process.ts";
import * as raw from "../support/raw_fs.ts";
import type { ByteString, RawStat } from "../support/raw_fs.ts";
import { pattern } from "./fixture.ts";
import { type Before, describeStat, describeTime, kindOf, settle } from "./state.ts";

export * from "../support/raw_change.ts";
export * from "../support/raw_process.ts";
export * from "../support/raw_fs.ts";

/** Up to so many bytes are shown as they are. */
const SHOWN_BYTES = 64;

function show(bytes: Uint8Array): string {
  if (bytes.length <= SHOWN_BYTES) return raw.fromBytes(bytes);
  const digest = createHash("sha256").update(bytes).digest("hex").slice(0, 12);
  return `${bytes.length} bytes, ${digest}`;
}

const EVENT_NAMES: Readonly<Record<number, string>> = {
  [proc.IN_MODIFY]: "modify",
  [proc.IN_ATTRIB]: "attrib",
  [proc.IN_CLOSE_WRITE]: "close-write",
  [proc.IN_MOVED_FROM]: "moved-from",
  [proc.IN_MOVED_TO]: "moved-to",
  [proc.IN_CREATE]: "create",
  [proc.IN_DELETE]: "delete",
  [proc.IN_DELETE_SELF]: "delete-self",
  [proc.IN_MOVE_SELF]: "move-self",
};
const ALL_EVENTS = Object.keys(EVENT_NAMES).reduce((sum, bit) => sum | Number(bit), 0);

export class Sys {
  readonly #fds = new Map<string, number>();
  readonly #mappings = new Map<string, raw.Mapping>();
  readonly #children = new Map<string, number>();
  readonly #inodes = new Map<string, bigint>();

  /** Closes and ends everything the case has left. */
  reset(): void {
    for (const name of [...this.#mappings.keys()]) this.unmap(name);
    for (const name of [...this.#fds.keys()]) this.close(name);
    for (const name of [...this.#children.keys()]) this.kill(name);
    this.#inodes.clear();
    change.umask(0o022);
  }

  has(name: string): boolean {
    return this.#fds.has(name);
  }

  /** The descriptor's number. */
  fd(name: string): number {
    const fd = this.#fds.get(name);
    if (fd === undefined) throw new Error(`the case has no descriptor ${name}`);
    return fd;
  }

  /** Puts a descriptor under a name. */
  #hold(name: string, fd: number): void {
    if (this.#fds.has(name)) throw new Error(`the case has a descriptor ${name} already`);
    this.#fds.set(name, fd);
  }

  // Descriptors.

  open(name: string, path: ByteString, flags = raw.O_RDONLY, mode = 0o644): void {
    this.#hold(name, raw.open(path, flags, mode));
  }

  openAt(name: string, directory: string, path: ByteString, flags = raw.O_RDONLY): void {
    this.#hold(name, raw.openat(this.fd(directory), path, flags));
  }

  close(name: string): void {
    const fd = this.fd(name);
    this.#fds.delete(name);
    raw.close(fd);
  }

  read(name: string, length: number): string {
    const buffer = new Uint8Array(length);
    return show(buffer.subarray(0, raw.read(this.fd(name), buffer)));
  }

  pread(name: string, length: number, offset: number): string {
    const buffer = new Uint8Array(length);
    return show(buffer.subarray(0, raw.pread(this.fd(name), buffer, offset)));
  }

  write(name: string, text: ByteString): number {
    return raw.write(this.fd(name), raw.toBytes(text));
  }

  pwrite(name: string, text: ByteString, offset: number): number {
    return raw.pwrite(this.fd(name), raw.toBytes(text), offset);
  }

  /** Writes so many bytes of a pattern at an offset, as one pwrite(2). */
  fill(name: string, length: number, offset: number, seed = 9): number {
    return raw.pwrite(this.fd(name), pattern(length, seed), offset);
  }

  seek(name: string, offset: number, whence = raw.SEEK_SET): number {
    return raw.lseek(this.fd(name), offset, whence);
  }

  ftruncate(name: string, size: number | bigint): void {
    change.ftruncate(this.fd(name), size);
  }

  fallocate(name: string, mode: number, offset: number | bigint, length: number | bigint): void {
    change.fallocate(this.fd(name), mode, offset, length);
  }

  fsync(name: string): void {
    change.fsync(this.fd(name));
  }

  fdatasync(name: string): void {
    change.fdatasync(this.fd(name));
  }

  copyRange(from: string, to: string, length: number, at?: { in?: number; out?: number }): number {
    return raw.copyFileRange(this.fd(from), this.fd(to), length, at);
  }

  sendfile(to: string, from: string, length: number, offset?: number): number {
    return raw.sendfile(this.fd(to), this.fd(from), length, offset);
  }

  setFlags(name: string, flags: number): void {
    proc.statusFlags(this.fd(name), proc.F_SETFL, flags);
  }

  fstat(name: string): Record<string, unknown> {
    return describeStat(raw.fstat(this.fd(name)));
  }

  fchmod(name: string, mode: number): void {
    change.fchmod(this.fd(name), mode);
  }

  fchown(name: string, uid: number, gid: number): void {
    change.fchown(this.fd(name), uid, gid);
  }

  futimens(name: string, times: readonly [change.Time, change.Time] | null): void {
    change.futimens(this.fd(name), times);
  }

  // Mappings.

  /** Maps a file from its beginning. */
  map(
    name: string,
    fd: string,
    length: number,
    options: { shared?: boolean; writable?: boolean } = {},
  ): void {
    this.#mappings.set(name, raw.mmap(this.fd(fd), length, options));
  }

  #mapping(name: string): raw.Mapping {
    const mapping = this.#mappings.get(name);
    if (mapping === undefined) throw new Error(`the case has no mapping ${name}`);
    return mapping;
  }

  peek(name: string, offset: number, length: number): string {
    return show(this.#mapping(name).bytes.slice(offset, offset + length));
  }

  poke(name: string, offset: number, text: ByteString): void {
    this.#mapping(name).bytes.set(raw.toBytes(text), offset);
  }

  msync(name: string): void {
    this.#mapping(name).sync();
  }

  unmap(name: string): void {
    const mapping = this.#mapping(name);
    this.#mappings.delete(name);
    mapping.unmap();
  }

  // Whole files.

  /** open, write and close of a new or emptied file. */
  put(path: ByteString, text: ByteString, mode = 0o644): void {
    const fd = raw.open(path, raw.O_WRONLY | raw.O_CREAT | raw.O_TRUNC, mode);
    try {
      if (text !== "") raw.write(fd, raw.toBytes(text));
    } finally {
      raw.close(fd);
    }
  }

  /** Appends by an open, a write and a close of its own. */
  append(path: ByteString, text: ByteString): void {
    const fd = raw.open(path, raw.O_WRONLY | raw.O_APPEND);
    try {
      raw.write(fd, raw.toBytes(text));
    } finally {
      raw.close(fd);
    }
  }

  cat(path: ByteString): string {
    return show(raw.readFile(path));
  }

  /** Opens, says what was opened, closes. */
  tryOpen(path: ByteString, flags: number, mode = 0o644): Record<string, unknown> {
    const fd = raw.open(path, flags, mode);
    try {
      return describeStat(raw.fstat(fd));
    } finally {
      raw.close(fd);
    }
  }

  truncate(path: ByteString, size: number | bigint): void {
    change.truncate(path, size);
  }

  // Names.

  mkdir(path: ByteString, mode = 0o755): void {
    change.mkdir(path, mode);
  }

  rmdir(path: ByteString): void {
    change.unlink(path, raw.AT_REMOVEDIR);
  }

  unlink(path: ByteString): void {
    change.unlink(path);
  }

  rename(from: ByteString, to: ByteString, flags = 0): void {
    change.rename(from, to, flags);
  }

  symlink(target: ByteString, path: ByteString): void {
    change.symlink(target, path);
  }

  readlink(path: ByteString): string {
    return show(raw.readlink(path));
  }

  link(from: ByteString, to: ByteString, flags = 0): void {
    change.link(from, to, flags);
  }

  /** Gives the file of a descriptor a name, by AT_EMPTY_PATH. */
  linkFd(name: string, to: ByteString): void {
    change.link("", to, raw.AT_EMPTY_PATH, this.fd(name));
  }

  mknod(path: ByteString, mode: number, rdev = 0): void {
    change.mknod(path, mode, rdev);
  }

  chdir(path: ByteString): void {
    change.chdir(path);
  }

  fchdir(name: string): void {
    change.fchdir(this.fd(name));
  }

  /** Names and kinds of a directory, sorted, without `.` and `..`. */
  list(path: ByteString, bufferBytes?: number): string[] {
    return this.#shown(raw.readdir(path, bufferBytes));
  }

  /** The rest of an open directory. */
  listFd(name: string, bufferBytes?: number): string[] {
    return this.#shown(raw.readdirFd(this.fd(name), bufferBytes));
  }

  #shown(entries: readonly raw.RawDirent[]): string[] {
    return entries.filter(({ name }) => name !== "." && name !== "..")
      .map(({ name, type }) => `${raw.printable(name)} ${type}`).sort();
  }

  /** The next entries of an open directory, as they come. */
  dirents(name: string, bufferBytes: number): raw.RawDirent[] {
    return raw.getdents(this.fd(name), new Uint8Array(bufferBytes));
  }

  // Attributes.

  stat(path: ByteString): Record<string, unknown> {
    return describeStat(raw.stat(path));
  }

  lstat(path: ByteString): Record<string, unknown> {
    return describeStat(raw.lstat(path));
  }

  kind(path: ByteString): string {
    return kindOf(raw.lstat(path));
  }

  access(path: ByteString, mode: number, flags = 0): void {
    raw.access(path, mode, flags);
  }

  chmod(path: ByteString, mode: number): void {
    change.chmod(path, mode);
  }

  chown(path: ByteString, uid: number, gid: number): void {
    change.chown(path, uid, gid);
  }

  lchown(path: ByteString, uid: number, gid: number): void {
    change.lchown(path, uid, gid);
  }

  utimens(
    path: ByteString,
    times: readonly [change.Time, change.Time] | null,
    flags = 0,
  ): void {
    change.utimens(path, times, flags);
  }

  umask(mask: number): void {
    change.umask(mask);
  }

  /** What must hold of statfs(2) everywhere; the figures themselves are nobody's business. */
  statfs(path: ByteString): Record<string, unknown> {
    const found = change.statfs(path);
    return {
      nameMax: found.nameMax,
      blockSizeIsPowerOfTwo: found.blockSize >= 512 &&
        (found.blockSize & (found.blockSize - 1)) === 0,
      blocksAreOrdered: found.blocks > 0 && found.blocks >= found.blocksFree &&
        found.blocksFree >= found.blocksAvailable && found.blocksAvailable > 0,
      filesAreOrdered: found.files >= found.filesFree && found.filesFree > 0,
    };
  }

  setxattr(path: ByteString, name: ByteString, value: ByteString, flags = 0): void {
    change.setxattr(path, name, raw.toBytes(value), flags);
  }

  /** Into a buffer of so many bytes; 0 asks for the size. */
  getxattr(path: ByteString, name: ByteString, bufferBytes = 65536): string | number {
    if (bufferBytes === 0) return change.getxattr(path, name, null);
    const buffer = new Uint8Array(bufferBytes);
    return show(buffer.subarray(0, change.getxattr(path, name, buffer)));
  }

  /** Names, sorted. */
  listxattr(path: ByteString, bufferBytes = 65536): string[] {
    const buffer = new Uint8Array(bufferBytes);
    const length = change.listxattr(path, buffer);
    return raw.fromBytes(buffer.subarray(0, length)).split("\0").slice(0, -1).sort();
  }

  removexattr(path: ByteString, name: ByteString): void {
    change.removexattr(path, name);
  }

  // What a case asks about more than one call.

  /** Remembers which inode a path is. */
  mark(path: ByteString, as: string): void {
    this.#inodes.set(as, raw.lstat(path).ino);
  }

  /** Whether a path is the inode that `mark` saw. */
  isMarked(path: ByteString, as: string): boolean {
    return raw.lstat(path).ino === this.#inodes.get(as);
  }

  /** The same for a descriptor. */
  isMarkedFd(name: string, as: string): boolean {
    return raw.fstat(this.fd(name)).ino === this.#inodes.get(as);
  }

  /**
   * Makes calls and says how mtime and ctime of these paths have changed, each as "same", "now",
   * "old" (another one of these times) or nanoseconds. A path that ends in "@" also says its
   * access time. A failed call must not have changed any.
   */
  times(paths: readonly ByteString[], call: () => unknown): Record<string, unknown> {
    const look = (path: ByteString) => {
      const stat = raw.lstat(path.replace(/@$/, ""));
      return {
        m: stat.mtimeNs,
        c: stat.ctimeNs,
        ...(path.endsWith("@") ? { a: stat.atimeNs } : {}),
      };
    };
    const stats = paths.map(look);
    const all = new Set(stats.flatMap((each) => Object.values(each)));
    settle(all);
    const before: Before = { startNs: proc.realtimeNs(), times: all };
    const describe = () =>
      Object.fromEntries(paths.map((path, i) => {
        const was: Record<string, bigint> = stats[i] ?? {};
        const parts = Object.entries(look(path)).map(([letter, time]) =>
          `${letter} ${time === was[letter] ? "same" : describeTime(time, before)}`
        );
        return [path, parts.join(", ")];
      }));
    let value: unknown;
    try {
      value = call();
    } catch (error) {
      const after = Object.values(describe()).join();
      if (/now|old|\d/.test(after)) throw new Error(`it failed, and changed times: ${after}`);
      throw error;
    }
    return { ...describe(), ...(value === undefined ? {} : { value }) };
  }

  /**
   * Whether SEEK_DATA and SEEK_HOLE tell a true story of a file: they cover it without a gap, each
   * hole reads as zeros, a hole ends it, and beyond it there is nothing. Where the holes are is up
   * to the file system.
   */
  holesAreTrue(name: string): boolean {
    const fd = this.fd(name);
    const size = raw.fstat(fd).size;
    const seek = (offset: number, whence: number) => {
      try {
        return raw.lseek(fd, offset, whence);
      } catch (error) {
        if (error instanceof raw.RawFsError && raw.errnoName(error.errno) === "ENXIO") return null;
        throw error;
      }
    };
    for (let at = 0; at < size;) {
      const data = seek(at, raw.SEEK_DATA) ?? size;
      const buffer = new Uint8Array(data - at);
      raw.pread(fd, buffer, at);
      if (data < at || buffer.some((byte) => byte !== 0)) return false;
      if (data === size) break;
      const hole = seek(data, raw.SEEK_HOLE);
      if (hole === null || hole <= data || hole > size) return false;
      at = hole;
    }
    return seek(size, raw.SEEK_DATA) === null && seek(size, raw.SEEK_HOLE) === null;
  }

  // Processes.

  flock(name: string, operation: number): void {
    proc.flock(this.fd(name), operation);
  }

  /** fcntl(2) with F_SETLK, F_SETLKW, F_OFD_SETLK, or F_GETLK, whose answer is the result. */
  lock(name: string, command: number, type: number, start = 0, length = 0): proc.RecordLock {
    return proc.recordLock(this.fd(name), command, { type, start, length });
  }

  /** Runs a program to its end: its exit code. */
  run(path: ByteString, ...args: ByteString[]): number {
    return proc.waitFor(proc.spawn(path, args));
  }

  /** Starts a program that runs until `kill`. */
  start(name: string, path: ByteString, ...args: ByteString[]): void {
    this.#children.set(name, proc.spawn(path, args));
  }

  kill(name: string): void {
    const pid = this.#children.get(name);
    if (pid === undefined) throw new Error(`the case has no program ${name}`);
    this.#children.delete(name);
    proc.kill(pid);
    proc.waitFor(pid);
  }

  inotify(name: string): void {
    this.#hold(name, proc.inotify());
  }

  /** The watch's number, as `events` shows it. */
  watch(name: string, path: ByteString): number {
    return proc.addWatch(this.fd(name), path, ALL_EVENTS);
  }

  /** All events so far, as "WATCH KIND NAME"; the halves of a rename are numbered alike. */
  events(name: string): string[] {
    const cookies = new Map<number, number>([[0, 0]]);
    return proc.readEvents(this.fd(name)).map(({ watch, mask, cookie, name: entry }) => {
      const pair = cookies.get(cookie) ?? cookies.size;
      cookies.set(cookie, pair);
      const kind = EVENT_NAMES[mask & ~proc.IN_ISDIR & 0xffff] ?? `mask ${mask}`;
      const directory = (mask & proc.IN_ISDIR) !== 0 ? " directory" : "";
      return `${watch} ${kind}${directory} ${entry}${pair > 0 ? ` #${pair}` : ""}`;
    });
  }

  listen(name: string, path: ByteString): void {
    this.#hold(name, proc.listenUnix(path));
  }

  connect(name: string, path: ByteString): void {
    this.#hold(name, proc.connectUnix(path));
  }

  accept(name: string, listener: string): void {
    this.#hold(name, proc.accept(this.fd(listener)));
  }

  /** What a path is, for whoever must look at raw values; nothing of it may be a result. */
  rawStat(path: ByteString): RawStat {
    return raw.lstat(path);
  }
}
