/**
 * Random operations, the same for the same seed and the same tree. Most of them are at paths that
 * are there, some at paths of a small set of names, so that they meet each other.
 *
 * A run has lanes: parts of the tree that have nothing in common, so that operations in them can
 * run at the same time and still have one right result. No link leads from one to another.
 */

import type { Random } from "../support/git_objects.ts";
import * as change from "../support/raw_change.ts";
import * as raw from "../support/raw_fs.ts";
import type { ByteString } from "../support/raw_fs.ts";
import { BASE_NAMES } from "./base.ts";
import type { Op, Target } from "./op.ts";
import type { Tree } from "./tree.ts";

/** By name: a directory at the root, or "." for everything that is in none of the others. */
export type Lane = "a" | "b" | ".";
export const LANES: readonly Lane[] = ["a", "b", "."];

export function laneOf(path: string): Lane {
  const top = path.split("/", 1)[0];
  return top === "a" || top === "b" ? top : ".";
}

/** More of them would make each comparison slow. */
const MANY_OBJECTS = 90;
const DEPTH_MAX = 6;
const SLOTS = 5;

/** Besides those of the base. */
const NEW_NAMES: readonly ByteString[] = [
  "n0",
  "n1",
  "n2",
  "caf\xe9",
  "\xc3\xbc\xe2\x82\xac",
  "with space\n",
  "x".repeat(255),
];
/** Within the lane, wherever the link is. */
const LINK_TARGETS = ["f0", "sub", "n0", "n1", "nowhere", ".", "sub/s0", "t".repeat(4000)];
const XATTRS = ["user.a", "user.b", `user.${"x".repeat(250)}`];

interface Known {
  readonly files: readonly ByteString[];
  readonly directories: readonly ByteString[];
  /** All that may be moved and removed. */
  readonly objects: readonly ByteString[];
}

export class Generator {
  readonly #random: Random;
  readonly #xattrs: boolean;
  readonly #known = new Map<Lane, Known>();

  constructor(random: Random, options: { readonly xattrs: boolean }) {
    this.#random = random;
    this.#xattrs = options.xattrs;
  }

  /** What is there now. */
  learn(tree: Tree): void {
    for (const lane of LANES) {
      const paths = Object.keys(tree).filter((path) => laneOf(path) === lane).sort();
      const ofKind = (kind: string) => paths.filter((path) => tree[path]?.kind === kind);
      this.#known.set(lane, {
        files: ofKind("file").map(unprintable),
        directories: ofKind("directory").map(unprintable),
        objects: paths.filter((path) => path !== lane).map(unprintable),
      });
    }
  }

  /** The next operation in a lane. */
  next(lane: Lane): Op {
    return new Choice(this.#random, this.#xattrs, lane, this.#knownIn(lane)).op();
  }

  #knownIn(lane: Lane): Known {
    const known = this.#known.get(lane);
    if (known === undefined) throw new Error("nothing is known of the tree");
    return known;
  }
}

/** What `printable` of raw_fs.ts made of a path. */
function unprintable(path: string): ByteString {
  if (!path.includes("\\x")) return raw.fromUtf8(path);
  return path.replace(/\\x([0-9a-f]{2})/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
}

type Weighted<T> = readonly (readonly [weight: number, value: T])[];

class Choice {
  constructor(
    readonly random: Random,
    readonly xattrs: boolean,
    readonly lane: Lane,
    readonly known: Known,
  ) {}

  op(): Op {
    const full = this.known.objects.length > MANY_OBJECTS;
    const all: Weighted<() => Op> = [
      [full ? 1 : 6, () => this.#create()],
      [4, () => this.#open()],
      [1, () => ({ call: "tmpfile", slot: this.#slot(), path: this.#directory() })],
      [2, () => ({ call: "close", slot: this.#slot() })],
      [14, () => this.#write()],
      [4, () => this.#poke()],
      [5, () => this.#copy()],
      [6, () => ({ call: "truncate", to: this.#target(), size: this.#size() })],
      [5, () => this.#fallocate()],
      [2, () => ({ call: "fsync", to: this.#target(), dataOnly: this.#chance(0.5) })],
      [1, () => ({ call: "fsync", to: { path: this.#directory() }, dataOnly: false })],
      [full ? 1 : 4, () => ({ call: "mkdir", path: this.#place(), mode: this.#mode() })],
      [full ? 12 : 4, () => ({ call: "rmdir", path: this.#movable() })],
      [full ? 20 : 6, () => ({ call: "unlink", path: this.#object() })],
      [14, () => this.#rename()],
      [full ? 1 : 6, () => this.#link()],
      [
        full ? 0 : 3,
        () => ({ call: "symlink", target: this.#pick(LINK_TARGETS), path: this.#place() }),
      ],
      [full ? 0 : 2, () => ({ call: "mknod", path: this.#place(), mode: this.#nodeMode() })],
      [5, () => ({ call: "chmod", to: this.#anyTarget(), mode: this.#mode() })],
      [3, () => ({ call: "chown", path: this.#object(), uid: this.#id(), gid: this.#id() })],
      [4, () => this.#utimens()],
      [this.xattrs ? 4 : 0, () => this.#setxattr()],
      [
        this.xattrs ? 2 : 0,
        () => ({ call: "removexattr", path: this.#object(), name: this.#pick(XATTRS) }),
      ],
      [this.xattrs ? 2 : 0, () => ({ call: "listxattr", path: this.#object() })],
      [
        8,
        () => ({
          call: "read",
          from: this.#target(),
          offset: this.#offset(),
          length: this.#length(),
        }),
      ],
      [5, () => ({ call: "stat", of: this.#anyTarget() })],
      [3, () => ({ call: "lstat", path: this.#object() })],
      [
        3,
        () => ({
          call: "readdir",
          path: this.#directory(),
          bufferBytes: this.#pick([600, 4096, 32768]),
        }),
      ],
      [1, () => ({ call: "readlink", path: this.#object() })],
    ];
    return this.#weighted(all)();
  }

  #weighted<T>(choices: Weighted<T>): T {
    let at = this.random.below(choices.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, value] of choices) if ((at -= weight) < 0) return value;
    throw new Error("no weights");
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.random.below(list.length)] as T;
  }

  #chance(probability: number): boolean {
    return this.random.next() < probability;
  }

  // Paths.

  #directory(): ByteString {
    const low = this.known.directories.filter((path) => path.split("/").length < DEPTH_MAX);
    return this.#pick(low.length > 0 ? low : [this.lane]);
  }

  /** A path that may be there or not, often one that the base had. */
  #place(): ByteString {
    const names = this.#chance(0.5) ? BASE_NAMES : NEW_NAMES;
    // In a directory named like the lane's own, nothing is special.
    const name = this.#chance(0.03) && this.lane !== "." ? ".git" : this.#pick(names);
    return join(this.#directory(), name);
  }

  #object(): ByteString {
    const { objects } = this.known;
    return objects.length > 0 && this.#chance(0.85) ? this.#pick(objects) : this.#place();
  }

  /** Mostly a directory, never the lane itself. */
  #movable(): ByteString {
    const { objects, directories } = this.known;
    const found = directories.filter((path) => objects.includes(path));
    return found.length > 0 && this.#chance(0.8) ? this.#pick(found) : this.#object();
  }

  #filePath(): ByteString {
    const { files } = this.known;
    return files.length > 0 && this.#chance(0.92) ? this.#pick(files) : this.#object();
  }

  #slot(): string {
    return `${this.lane}${this.random.below(SLOTS)}`;
  }

  #target(): Target {
    return this.#chance(0.3) ? { slot: this.#slot() } : { path: this.#filePath() };
  }

  #anyTarget(): Target {
    return this.#chance(0.2) ? { slot: this.#slot() } : { path: this.#object() };
  }

  // Figures.

  #offset(): number {
    return this.#weighted([
      [4, () => 0],
      [4, () => this.random.below(5000)],
      [2, () => 4096 * this.random.below(20)],
      [3, () => this.random.below(100_000)],
      [1, () => this.random.below(2_000_000)],
    ])();
  }

  #length(): number {
    return this.#weighted([
      [4, () => 1 + this.random.below(100)],
      [3, () => 1 + this.random.below(9000)],
      [2, () => 4096 * (1 + this.random.below(8))],
      [1, () => 1 + this.random.below(120_000)],
    ])();
  }

  #size(): number {
    return this.#chance(0.3) ? 0 : this.#offset();
  }

  #seed(): number {
    return this.random.below(256);
  }

  #mode(): number {
    const bits = this.#pick([0, 0, 0, 0, 0o1000, 0o2000, 0o4000, 0o6000]);
    return bits | this.#pick([0o644, 0o755, 0o600, 0o700, 0o777, 0o444, 0, 0o711]);
  }

  #nodeMode(): number {
    return this.#pick([raw.S_IFIFO, raw.S_IFSOCK, raw.S_IFREG]) | this.#pick([0o644, 0o600]);
  }

  #id(): number {
    return this.#pick([0, 0, 1, 12345, change.UNCHANGED]);
  }

  #time(): string {
    return this.#pick(["now", "omit", "0", "981173106123456789", "1500000000000000001"]);
  }

  // Operations with more to decide.

  #create(): Op {
    const access = this.#pick([raw.O_RDWR, raw.O_WRONLY, raw.O_RDONLY]);
    const how = this.#pick([raw.O_EXCL, 0, raw.O_TRUNC, raw.O_APPEND, raw.O_NOFOLLOW]);
    return {
      call: "open",
      slot: this.#slot(),
      path: this.#place(),
      flags: access | raw.O_CREAT | how,
      mode: this.#pick([0o644, 0o600, 0o666, 0o4755, 0o444]),
    };
  }

  #open(): Op {
    const access = this.#pick([raw.O_RDWR, raw.O_RDWR, raw.O_RDONLY, raw.O_WRONLY]);
    const how = this.#pick([0, 0, 0, raw.O_TRUNC, raw.O_APPEND]);
    const path = this.#filePath();
    return { call: "open", slot: this.#slot(), path, flags: access | how, mode: 0 };
  }

  #write(): Op {
    const append = this.#chance(0.3);
    const to: Target = append ? { path: this.#filePath() } : this.#target();
    const offset = append ? null : this.#offset();
    return { call: "write", to, offset, length: this.#length(), seed: this.#seed() };
  }

  #poke(): Op {
    const offset = this.#chance(0.5) ? this.random.below(4096) : this.random.below(70_000);
    const room = 4096 - offset % 4096;
    const length = 1 + this.random.below(Math.min(room, 200));
    return { call: "poke", to: this.#target(), offset, length, seed: this.#seed() };
  }

  #copy(): Op {
    return {
      call: "copy",
      from: this.#target(),
      fromOffset: this.#chance(0.5) ? 0 : this.random.below(9000),
      to: this.#target(),
      offset: this.#offset(),
      length: this.#length(),
    };
  }

  #fallocate(): Op {
    const mode = this.#pick([
      0,
      change.FALLOC_KEEP_SIZE,
      change.FALLOC_PUNCH_HOLE | change.FALLOC_KEEP_SIZE,
      change.FALLOC_ZERO_RANGE,
      change.FALLOC_ZERO_RANGE | change.FALLOC_KEEP_SIZE,
    ]);
    const [offset, length] = [this.#offset(), this.#length()];
    return { call: "fallocate", to: this.#target(), mode, offset, length };
  }

  #rename(): Op {
    const flags = this.#pick([0, 0, 0, change.RENAME_NOREPLACE, change.RENAME_EXCHANGE]);
    const from = this.#chance(0.4) ? this.#movable() : this.#object();
    const there = this.#chance(flags === change.RENAME_EXCHANGE ? 0.9 : 0.4);
    const path = there ? this.#object() : this.#place();
    return { call: "rename", from, path, flags };
  }

  #link(): Op {
    const slot = this.#chance(0.2);
    const from: Target = slot ? { slot: this.#slot() } : { path: this.#filePath() };
    return { call: "link", from, path: this.#place() };
  }

  #utimens(): Op {
    return {
      call: "utimens",
      path: this.#object(),
      atime: this.#time(),
      mtime: this.#time(),
    };
  }

  #setxattr(): Op {
    return {
      call: "setxattr",
      path: this.#object(),
      name: this.#pick(XATTRS),
      flags: this.#pick([0, 0, change.XATTR_CREATE, change.XATTR_REPLACE]),
      length: this.random.below(200),
      seed: this.#seed(),
    };
  }
}

function join(directory: ByteString, name: ByteString): ByteString {
  return directory === "." ? name : `${directory}/${name}`;
}
