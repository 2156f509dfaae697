/**
 * What is in a tree, and how two of them differ: the plain one, which is right, and the mounted
 * one.
 */

import { describeStat, kindOf } from "../posix/state.ts";
import * as raw from "../support/raw_fs.ts";
import { digest, xattrsOf } from "./perform.ts";

/** One path. Times are nanoseconds since the epoch in decimal. */
export interface Seen {
  /** What must be the same on both sides. */
  readonly shown: Readonly<Record<string, unknown>>;
  readonly kind: string;
  readonly ino: string;
  /** Unlike the ino, never used twice; "" where nobody asked for it. */
  readonly identity: string;
  readonly mtime: string;
  readonly ctime: string;
}

/** By printable path; "." is the tree itself. */
export type Tree = Readonly<Record<string, Seen>>;

export interface LookOptions {
  /** Asks for the time of birth, which a mount does not have. */
  readonly identity: boolean;
  readonly xattrs: boolean;
}

/** Everything in the working directory but a `.git` there. Throws RawFsError. */
export function lookAtTree({ identity, xattrs }: LookOptions): Tree {
  const tree: Record<string, Seen> = {};
  const firstPath = new Map<bigint, string>();
  const add = (
    path: string,
    stat: raw.RawStat,
    more: Record<string, unknown>,
    bornNs: bigint | null,
  ) => {
    const first = firstPath.get(stat.ino);
    if (first === undefined) firstPath.set(stat.ino, path);
    tree[path in tree ? `${path} (again)` : path] = {
      shown: { ...describeStat(stat), ...more, ...(first === undefined ? {} : { sameAs: first }) },
      kind: kindOf(stat),
      ino: String(stat.ino),
      identity: bornNs === null ? "" : `${stat.ino}@${bornNs}`,
      mtime: String(stat.mtimeNs),
      ctime: String(stat.ctimeNs),
    };
  };
  add(".", raw.lstat("."), {}, identity ? raw.bornNs(raw.AT_FDCWD, ".") : null);
  const sorted = raw.walk(".", (all) => {
    return all.sort((a, b) => (a.name < b.name ? -1 : 1));
  });
  for (const { path, name, dirFd, dirent, stat } of sorted) {
    if (path === ".git") continue;
    const more: Record<string, unknown> = {
      listed: dirent.type === stat.mode >> 12 && dirent.ino === stat.ino ? "right" : "wrong",
    };
    const kind = kindOf(stat);
    if (kind === "file") more["content"] = digest(raw.readFile(name, 1 << 18, dirFd));
    if (kind === "link") more["target"] = raw.printable(raw.readlinkAt(dirFd, name));
    if (xattrs) more["xattrs"] = xattrsOf(`./${path}`);
    add(raw.printable(path), stat, more, identity ? raw.bornNs(dirFd, name) : null);
  }
  return tree;
}

/** Both sides at one moment. */
export interface Moment {
  readonly plain: Tree;
  readonly mounted: Tree;
}

const DAY_NS = 86_400_000_000_000n;

/** When the run began: what is older, or far ahead, was set and must be the same on both sides. */
function describeTime(time: string, startNs: bigint): string {
  const ns = BigInt(time);
  return ns < startNs || ns > startNs + DAY_NS * 30n ? time : "since the start";
}

/** A path where something is not as it should be. */
export interface Oddity {
  readonly path: string;
  readonly text: string;
}

/** Each path and field that differs. */
export function differences({ plain, mounted }: Moment, startNs: bigint): Oddity[] {
  const odd: Oddity[] = [];
  for (const path of new Set([...Object.keys(plain), ...Object.keys(mounted)])) {
    const [want, got] = [plain[path], mounted[path]];
    if (want === undefined || got === undefined) {
      const side = got === undefined ? "missing in the mount" : "in the mount only";
      odd.push({ path, text: `${side}: ${JSON.stringify((want ?? got)?.shown)}` });
      continue;
    }
    const [a, b] = [want, got].map(({ shown, mtime }): Record<string, unknown> => ({
      ...shown,
      mtime: describeTime(mtime, startNs),
    }));
    for (const field of new Set([...Object.keys(a ?? {}), ...Object.keys(b ?? {})])) {
      const [left, right] = [JSON.stringify(a?.[field]), JSON.stringify(b?.[field])];
      if (left !== right) odd.push({ path, text: `${field}: expected ${left}, got ${right}` });
    }
  }
  return odd;
}

/** What has changed where nothing may, times and numbers included. */
export function lost(before: Tree, after: Tree): Oddity[] {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])].flatMap((path) => {
    const [was, is] = [before[path], after[path]].map((seen) => JSON.stringify(seen) ?? "nothing");
    return was === is ? [] : [{ path, text: `was ${was}, is ${is}` }];
  });
}

/** One inode on both sides, by its identity. */
type Pairs = Map<string, { readonly plain: Seen; readonly mounted: Seen }>;

/**
 * Follows inodes over a run: their numbers stay and are nobody else's, and their times move when
 * those of the plain tree do.
 */
export class Followed {
  readonly #inoOf = new Map<string, string>();
  readonly #identityOf = new Map<string, string>();
  #last: Pairs = new Map();

  /** To be called when both trees are known to be alike. */
  follow({ plain, mounted }: Moment): Oddity[] {
    const odd: Oddity[] = [];
    const now: Pairs = new Map();
    for (const [path, want] of Object.entries(plain)) {
      const got = mounted[path];
      if (got === undefined || now.has(want.identity)) continue;
      now.set(want.identity, { plain: want, mounted: got });
      const ino = this.#inoOf.get(want.identity);
      const owner = this.#identityOf.get(got.ino);
      if (ino !== undefined && ino !== got.ino) {
        odd.push({ path, text: `its number was ${ino}, is ${got.ino}` });
      } else if (owner !== undefined && owner !== want.identity) {
        odd.push({ path, text: `its number ${got.ino} was another one's (${owner})` });
      }
      this.#inoOf.set(want.identity, got.ino);
      this.#identityOf.set(got.ino, want.identity);
      const last = this.#last.get(want.identity);
      if (last === undefined) continue;
      for (const time of ["mtime", "ctime"] as const) {
        const must = last.plain[time] !== want[time];
        if (must === (last.mounted[time] !== got[time])) continue;
        odd.push({
          path,
          text: must
            ? `its ${time} should have moved, is still ${got[time]}`
            : `its ${time} should not have moved, was ${last.mounted[time]}, is ${got[time]}`,
        });
      }
    }
    this.#last = now;
    return odd;
  }
}

/** The newest time in both trees that is not far ahead, for `settle`. */
export function* timesOf({ plain, mounted }: Moment, nowNs: bigint): Generator<bigint> {
  for (const tree of [plain, mounted]) {
    for (const { mtime, ctime } of Object.values(tree)) {
      for (const time of [BigInt(mtime), BigInt(ctime)]) if (time <= nowNs) yield time;
    }
  }
}
