/**
 * What is in a directory, in a form that two directories can be compared by: no inode numbers, no
 * devices, and of times only how they changed.
 *
 * Not compared: sizes of directories, blocks, and everything's access time unless asked for.
 */

import { createHash } from "node:crypto";
import { getxattr, listxattr } from "../support/raw_change.ts";
import {
  type ByteString,
  close,
  fromBytes,
  lstat,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_RDONLY,
  open,
  openat,
  pread,
  printable,
  type RawStat,
  readdirFd,
  readlinkAt,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  walk,
} from "../support/raw_fs.ts";
import { realtimeNs } from "../support/raw_process.ts";

const KINDS: Readonly<Record<number, string>> = {
  [S_IFREG]: "file",
  [S_IFDIR]: "directory",
  [S_IFLNK]: "link",
  [S_IFIFO]: "fifo",
  [S_IFSOCK]: "socket",
  [S_IFCHR]: "char",
  [S_IFBLK]: "block",
};

export function kindOf(stat: RawStat): string {
  return KINDS[stat.mode & S_IFMT] ?? `kind ${stat.mode >> 12}`;
}

/** What a stat says that must be the same everywhere. */
export function describeStat(stat: RawStat): Record<string, unknown> {
  const kind = kindOf(stat);
  return {
    kind,
    mode: (stat.mode & 0o7777).toString(8).padStart(4, "0"),
    nlink: stat.nlink,
    uid: stat.uid,
    gid: stat.gid,
    ...(kind === "directory" ? {} : { size: stat.size }),
    ...(kind === "char" || kind === "block" ? { rdev: String(stat.rdev) } : {}),
  };
}

/**
 * How far a time stamp may be behind the clock: file systems take the time of the last tick, or
 * whole milliseconds.
 */
const COARSE_NS = 11_000_000n;

/**
 * Waits until a change made from now on gets a time that is later than all of these, and cannot
 * be taken for one of them.
 */
export function settle(times: Iterable<bigint>): void {
  let latest = 0n;
  for (const time of times) if (time > latest) latest = time;
  const clock = new Int32Array(new SharedArrayBuffer(4));
  // A time far ahead was set on purpose.
  if (latest > realtimeNs() + 1_000_000_000n) return;
  while (realtimeNs() <= latest + COARSE_NS) Atomics.wait(clock, 0, 0, 1);
}

/** Times before something happened, and when it began. */
export interface Before {
  readonly startNs: bigint;
  readonly times: ReadonlySet<bigint>;
}

/** `old` (it was there before), `now` (between then and this moment), or nanoseconds. */
export function describeTime(time: bigint, before: Before): string {
  if (before.times.has(time)) return "old";
  if (time >= before.startNs - COARSE_NS && time <= realtimeNs()) return "now";
  return String(time);
}

const READ_BYTES = 1 << 20;
/** Of longer files only the beginning and the end are hashed: they are sparse. */
const WHOLE_BYTES = 16 << 20;

function digest(dirFd: number, name: ByteString, size: number): string {
  const fd = openat(dirFd, name, O_RDONLY | O_NOFOLLOW);
  const hash = createHash("sha256");
  const buffer = new Uint8Array(READ_BYTES);
  try {
    for (let at = 0;;) {
      const n = pread(fd, buffer, at);
      if (n === 0) return hash.digest("hex").slice(0, 16);
      hash.update(buffer.subarray(0, n));
      at += n;
      if (size > WHOLE_BYTES && at < size - READ_BYTES) at = size - READ_BYTES;
    }
  } finally {
    close(fd);
  }
}

function xattrsOf(path: ByteString): Record<string, string> {
  const names = new Uint8Array(listxattr(path, null));
  listxattr(path, names);
  const values: [string, string][] = [];
  for (const name of fromBytes(names).split("\0")) {
    if (!name.startsWith("user.")) continue;
    const value = new Uint8Array(getxattr(path, name, null));
    getxattr(path, name, value);
    values.push([name, fromBytes(value)]);
  }
  return Object.fromEntries(values.sort(([a], [b]) => a < b ? -1 : 1));
}

/** Times of everything at and below a directory. */
export function timesBefore(root: ByteString): Before {
  const times = new Set<bigint>();
  const add = (stat: RawStat) => {
    for (const time of [stat.atimeNs, stat.mtimeNs, stat.ctimeNs]) times.add(time);
  };
  add(lstat(root));
  for (const { stat } of walk(root)) add(stat);
  settle(times);
  return { startNs: realtimeNs(), times };
}

export interface StateOptions {
  readonly atime?: boolean;
  readonly xattr?: boolean;
  /** Inode numbers, which only the same file system at another time can have. */
  readonly ino?: boolean;
}

/** For a state in which all times are nanoseconds. */
export const NOTHING_BEFORE: Before = { startNs: 1n << 63n, times: new Set() };

/** Path to what is there; paths are printable, the directory itself is ".". */
export type State = Record<string, Record<string, unknown>>;

/** Throws RawFsError. */
export function stateOf(root: ByteString, before: Before, options: StateOptions): State {
  const state: State = {};
  const firstPath = new Map<bigint, string>();
  const describe = (path: ByteString, stat: RawStat, more: Record<string, unknown>) => {
    const shown = printable(path);
    const first = firstPath.get(stat.ino);
    if (first === undefined) firstPath.set(stat.ino, shown);
    const entry = {
      ...describeStat(stat),
      ...more,
      ...(first === undefined ? {} : { sameInodeAs: first }),
      mtime: describeTime(stat.mtimeNs, before),
      ctime: describeTime(stat.ctimeNs, before),
      ...(options.atime ? { atime: describeTime(stat.atimeNs, before) } : {}),
      ...(options.ino ? { ino: String(stat.ino) } : {}),
      ...(options.xattr ? { xattr: xattrsOf(path === "." ? root : `${root}/${path}`) } : {}),
    };
    // A name that is listed twice must not hide behind itself.
    state[shown in state ? `${shown} (again)` : shown] = entry;
  };

  const rootFd = open(root, O_RDONLY | O_DIRECTORY);
  try {
    const rootStat = lstat(root);
    describe(".", rootStat, dotsOf(rootFd, rootStat.ino, null));
    const inoOf = new Map<ByteString, bigint>([["", rootStat.ino]]);
    const sorted = walk(root, (entries) => entries.sort((a, b) => (a.name < b.name ? -1 : 1)));
    for (const { path, name, dirFd, dirent, stat } of sorted) {
      const more: Record<string, unknown> = {
        dirent: dirent.type === stat.mode >> 12 ? "right" : `type ${dirent.type}`,
        direntIno: dirent.ino === stat.ino ? "right" : "another than stat's",
      };
      const kind = kindOf(stat);
      if (kind === "file") more["content"] = digest(dirFd, name, stat.size);
      if (kind === "link") more["target"] = printable(readlinkAt(dirFd, name));
      if (kind === "directory") {
        const slash = path.lastIndexOf("/");
        const parent = inoOf.get(path.slice(0, Math.max(slash, 0))) ?? null;
        inoOf.set(path, stat.ino);
        const fd = openat(dirFd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        Object.assign(more, dotsOf(fd, stat.ino, parent));
        close(fd);
      }
      describe(path, stat, more);
    }
  } finally {
    close(rootFd);
  }
  return state;
}

/** Whether `.` and `..` are listed once each, with the right inodes. */
function dotsOf(fd: number, self: bigint, parent: bigint | null): Record<string, unknown> {
  const listed = readdirFd(fd);
  const look = (name: string, ino: bigint | null) => {
    const found = listed.filter((entry) => entry.name === name);
    if (found.length !== 1) return `listed ${found.length} times`;
    return ino === null || found[0]?.ino === ino ? "right" : "another inode";
  };
  return { dot: look(".", self), dotDot: look("..", parent) };
}

/** One line for each path and field that differs. */
export function compareStates(a: State, b: State): string[] {
  const lines: string[] = [];
  for (const path of [...new Set([...Object.keys(a), ...Object.keys(b)])].sort()) {
    const [left, right] = [a[path], b[path]];
    if (left === undefined || right === undefined) {
      const where = left === undefined ? "only under test" : "only in the plain directory";
      lines.push(`${path}: ${where}: ${JSON.stringify(left ?? right)}`);
      continue;
    }
    for (const field of new Set([...Object.keys(left), ...Object.keys(right)])) {
      const [want, got] = [JSON.stringify(left[field]), JSON.stringify(right[field])];
      if (want !== got) lines.push(`${path}: ${field}: expected ${want}, got ${got}`);
    }
  }
  return lines;
}
