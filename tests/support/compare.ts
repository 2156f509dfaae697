/**
 * Compares a directory tree (a mount, a checkout) with a commit, path by path: listings, kinds,
 * modes, sizes, bytes, link targets, inode numbers. The oracle is `git ls-tree` of a repository
 * that has everything; bytes are proven by hashing them to git's object name, and `git cat-file`
 * only tells where a difference begins.
 *
 * The walk uses blocking calls: run it in a process of its own (compare_main.ts, `runCompare`),
 * never in the one that serves the mount.
 */
import { createHash } from "node:crypto";
import type { ByteString } from "./raw_fs.ts";
import * as raw from "./raw_fs.ts";
import { git, run } from "./run.ts";
import { Random } from "./git_objects.ts";

/** What a commit has at a path. */
export interface Expected {
  kind: "file" | "executable" | "link" | "dir" | "gitlink";
  oid: string;
  /** Bytes of the file or the link's target; 0 for directories. */
  size: number;
}

export interface CompareOptions {
  /** Read files and check their bytes (true unless told). Links are always read. */
  read?: boolean;
  /**
   * "tree": git's order; "readdir": as listed; "random:SEED": all directories listed first, then
   * every path in random order. "tree" unless told.
   */
  order?: string;
  /** Expected owner; not checked unless told. */
  uid?: number;
  gid?: number;
  /**
   * The tree is git's checkout, not a mount: `.git` may be a directory, no entry for empty trees,
   * modes are subject to umask, directories have any mode and link count.
   */
  checkout?: boolean;
  /** There is no `.git` at the root (true) or there must be one (false, the default). */
  noGitfile?: boolean;
  /** These paths and what is below them may be anything. */
  ignore?: readonly ByteString[];
  /** Bytes of one read, 65,536 unless told. */
  chunkBytes?: number;
  /** Repository with the right bytes: the detail of a difference then says where it begins. */
  gitDir?: string;
}

export interface Difference {
  path: string;
  /** One word or two: "missing", "unexpected", "mode", "size", "bytes", "target", "d_ino"... */
  what: string;
  detail: string;
}

export interface CompareSummary {
  files: number;
  links: number;
  dirs: number;
  gitlinks: number;
  /** Bytes read of files. */
  bytes: number;
  ms: number;
  differenceCount: number;
  /** The first 20. */
  differences: Difference[];
}

const MAX_DIFFERENCES = 20;
const KINDS: Readonly<Record<string, Expected["kind"]>> = {
  "100644": "file",
  "100755": "executable",
  "120000": "link",
  "160000": "gitlink",
  "040000": "dir",
};

/** Every path of a commit, in git's order. Throws RunError when git does not know it. */
export async function loadExpected(
  gitDir: string,
  commit: string,
): Promise<Map<ByteString, Expected>> {
  const { stdoutBytes } = await git(
    ["--git-dir", gitDir, "ls-tree", "-r", "-t", "-l", "-z", "--full-tree", commit],
    { timeoutMs: 600_000 },
  );
  const expected = new Map<ByteString, Expected>();
  for (let at = 0; at < stdoutBytes.length;) {
    const end = stdoutBytes.indexOf(0, at);
    const tab = stdoutBytes.indexOf(9, at);
    const [mode = "", , oid = "", size = ""] = raw.fromBytes(stdoutBytes.subarray(at, tab))
      .split(/ +/);
    const path = raw.fromBytes(stdoutBytes.subarray(tab + 1, end));
    const kind = KINDS[mode] ?? (mode.startsWith("100") ? "file" : undefined);
    if (kind === undefined) throw new Error(`mode ${mode} of ${raw.printable(path)}`);
    expected.set(path, { kind, oid, size: size === "-" ? 0 : Number(size) });
    at = end + 1;
  }
  return expected;
}

/** Compares the tree at `root` with what `loadExpected` gave. Blocks until done. */
export function compareTree(
  root: raw.RawPath,
  expected: ReadonlyMap<ByteString, Expected>,
  options: CompareOptions = {},
): CompareSummary {
  return new Comparison(expected, options).run(root);
}

interface Found {
  path: ByteString;
  dirent: raw.RawDirent;
}

class Comparison {
  readonly #expected: ReadonlyMap<ByteString, Expected>;
  readonly #options: CompareOptions;
  readonly #seen = new Set<ByteString>();
  readonly #inodes = new Map<bigint, ByteString>();
  readonly #emptyTrees = new Set<ByteString>();
  readonly #buffer: Uint8Array<ArrayBuffer>;
  #summary: CompareSummary = {
    files: 0,
    links: 0,
    dirs: 0,
    gitlinks: 0,
    bytes: 0,
    ms: 0,
    differenceCount: 0,
    differences: [],
  };
  #rootDev = 0n;

  constructor(expected: ReadonlyMap<ByteString, Expected>, options: CompareOptions) {
    this.#expected = expected;
    this.#options = options;
    this.#buffer = new Uint8Array(options.chunkBytes ?? 65536);
    if (options.checkout) this.#findEmptyTrees();
  }

  run(root: raw.RawPath): CompareSummary {
    const start = performance.now();
    const order = this.#options.order ?? "tree";
    const seed = /^random:(\d+)$/.exec(order)?.[1];
    if (seed === undefined && order !== "tree" && order !== "readdir") {
      throw new TypeError(`order ${order}`);
    }
    const fd = raw.open(root, raw.O_RDONLY | raw.O_DIRECTORY);
    try {
      const stat = raw.fstat(fd);
      this.#rootDev = stat.dev;
      this.#checkStat("", { kind: "dir", oid: "", size: 0 }, stat);
      if (seed === undefined) this.#walk(fd, "", stat, null, order);
      else this.#randomly(fd, stat, new Random(Number(seed)));
      for (const [path] of this.#expected) {
        if (this.#seen.has(path) || this.#ignored(path) || this.#emptyTrees.has(path)) continue;
        this.#differ(path, "missing", `not listed; ${this.#lookup(fd, path)}`);
      }
    } finally {
      raw.close(fd);
    }
    this.#summary.ms = Math.round(performance.now() - start);
    return this.#summary;
  }

  #walk(
    dirFd: number,
    prefix: ByteString,
    stat: raw.RawStat,
    parent: raw.RawStat | null,
    order: string,
  ): void {
    const found = this.#list(dirFd, prefix, stat, parent);
    if (order === "tree") found.sort((a, b) => (this.#gitKey(a) < this.#gitKey(b) ? -1 : 1));
    for (const entry of found) {
      const entryStat = this.#check(dirFd, entry.dirent.name, entry);
      if (entryStat === null) continue;
      this.#guarded(entry.path, "open directory", () => {
        const fd = raw.openat(
          dirFd,
          entry.dirent.name,
          raw.O_RDONLY | raw.O_DIRECTORY | raw.O_NOFOLLOW,
        );
        try {
          this.#walk(fd, entry.path + "/", entryStat, stat, order);
        } finally {
          raw.close(fd);
        }
      });
    }
  }

  #gitKey(entry: Found): string {
    const kind = this.#expected.get(entry.path)?.kind;
    return entry.dirent.name + (kind === "dir" ? "/" : "");
  }

  #randomly(rootFd: number, rootStat: raw.RawStat, random: Random): void {
    const all: Found[] = [];
    const list = (
      fd: number,
      prefix: ByteString,
      stat: raw.RawStat,
      parent: raw.RawStat | null,
    ) => {
      for (const entry of this.#list(fd, prefix, stat, parent)) {
        all.push(entry);
        const kind = this.#expected.get(entry.path)?.kind;
        if (kind !== "dir" && kind !== "gitlink") continue;
        this.#guarded(entry.path, "open directory", () => {
          const child = raw.openat(
            fd,
            entry.dirent.name,
            raw.O_RDONLY | raw.O_DIRECTORY | raw.O_NOFOLLOW,
          );
          try {
            list(child, entry.path + "/", raw.fstat(child), stat);
          } finally {
            raw.close(child);
          }
        });
      }
    };
    list(rootFd, "", rootStat, null);
    for (let i = all.length - 1; i > 0; i--) {
      const j = random.below(i + 1);
      const [a, b] = [all[i], all[j]];
      if (a !== undefined && b !== undefined) [all[i], all[j]] = [b, a];
    }
    for (const entry of all) {
      const slash = entry.path.lastIndexOf("/");
      if (slash < 0) {
        this.#check(rootFd, entry.path, entry);
        continue;
      }
      this.#guarded(entry.path, "open parent", () => {
        const fd = raw.openDeep(
          rootFd,
          entry.path.slice(0, slash),
          raw.O_PATH | raw.O_DIRECTORY,
        );
        try {
          this.#check(fd, entry.dirent.name, entry);
        } finally {
          raw.close(fd);
        }
      });
    }
  }

  /**
   * Reads a directory and checks the listing itself; returns the entries that are to be checked.
   */
  #list(
    fd: number,
    prefix: ByteString,
    stat: raw.RawStat,
    parent: raw.RawStat | null,
  ): Found[] {
    const self = prefix.slice(0, -1);
    const names = new Set<ByteString>();
    const found: Found[] = [];
    let entries: raw.RawDirent[] = [];
    this.#guarded(self, "readdir", () => {
      entries = raw.readdirFd(fd);
    });
    for (const dirent of entries) {
      const { name } = dirent;
      if (names.has(name)) {
        this.#differ(prefix + name, "listed twice", "");
        continue;
      }
      names.add(name);
      if (name === ".") {
        if (dirent.ino !== stat.ino) {
          this.#differ(self, "d_ino of .", `${dirent.ino}, not ${stat.ino}`);
        }
        if (dirent.type !== raw.DT_DIR) this.#differ(self, "d_type of .", `${dirent.type}`);
      } else if (name === "..") {
        if (parent !== null && dirent.ino !== parent.ino) {
          this.#differ(self, "d_ino of ..", `${dirent.ino}, not ${parent.ino}`);
        }
        if (dirent.type !== raw.DT_DIR) this.#differ(self, "d_type of ..", `${dirent.type}`);
      } else if (!this.#ignored(prefix + name)) {
        found.push({ path: prefix + name, dirent });
      }
    }
    for (const name of [".", ".."]) {
      if (!names.has(name)) this.#differ(self, "missing", `no "${name}" in the listing`);
    }
    if (prefix === "") {
      const present = names.has(".git");
      const wanted = !(this.#options.noGitfile ?? false);
      if (present !== wanted && !this.#ignored(".git")) {
        this.#differ(".git", present ? "unexpected" : "missing", "at the root");
      }
    }
    return found;
  }

  /** Checks one listed path. Returns its stat when it is a directory to go into, else null. */
  #check(dirFd: number, name: ByteString, entry: Found): raw.RawStat | null {
    const { path, dirent } = entry;
    let stat: raw.RawStat | undefined;
    this.#guarded(path, "lstat", () => {
      stat = raw.statAt(dirFd, name, raw.AT_SYMLINK_NOFOLLOW);
    });
    if (stat === undefined) return null;
    const format = stat.mode & raw.S_IFMT;
    if (dirent.ino !== stat.ino) {
      this.#differ(path, "d_ino", `${dirent.ino} listed, st_ino ${stat.ino}`);
    }
    if (dirent.type !== format >> 12) {
      this.#differ(path, "d_type", `${dirent.type} listed, st_mode ${stat.mode.toString(8)}`);
    }
    if (path === ".git") {
      const kind = this.#options.checkout ? raw.S_IFDIR : raw.S_IFREG;
      if (format !== kind) this.#differ(path, "mode", stat.mode.toString(8));
      return null;
    }
    const expected = this.#expected.get(path);
    if (expected === undefined) {
      this.#differ(path, "unexpected", `st_mode ${stat.mode.toString(8)}`);
      return null;
    }
    this.#seen.add(path);
    this.#checkStat(path, expected, stat);
    switch (expected.kind) {
      case "dir":
      case "gitlink":
        if (format !== raw.S_IFDIR) return null;
        return stat;
      case "link":
        if (format === raw.S_IFLNK) this.#checkLink(dirFd, name, path, expected);
        return null;
      default:
        if (format === raw.S_IFREG && (this.#options.read ?? true)) {
          this.#checkBytes(dirFd, name, path, expected);
        }
        return null;
    }
  }

  #checkStat(path: ByteString, expected: Expected, stat: raw.RawStat): void {
    const { kind } = expected;
    const checkout = this.#options.checkout ?? false;
    const count = kind === "link"
      ? "links"
      : kind === "dir"
      ? "dirs"
      : kind === "gitlink"
      ? "gitlinks"
      : "files";
    if (path !== "") this.#summary[count]++;
    const directory = kind === "dir" || kind === "gitlink";
    const mode = directory
      ? raw.S_IFDIR | 0o755
      : kind === "link"
      ? raw.S_IFLNK | 0o777
      : raw.S_IFREG | (kind === "executable" ? 0o755 : 0o644);
    // Of a checkout only kind and the owner's execute bit are git's.
    const mask = !checkout ? 0xffff : directory ? raw.S_IFMT : raw.S_IFMT | 0o100;
    if ((stat.mode & mask) !== (mode & mask)) {
      this.#differ(path, "mode", `${stat.mode.toString(8)}, not ${mode.toString(8)}`);
    }
    if (!directory) {
      if (stat.size !== expected.size) {
        this.#differ(path, "size", `${stat.size}, not ${expected.size}`);
      }
      if (stat.nlink !== 1) this.#differ(path, "nlink", `${stat.nlink}`);
    } else if (!checkout && (stat.nlink < 1 || stat.nlink > 2 + this.#expected.size)) {
      this.#differ(path, "nlink", `${stat.nlink}`);
    }
    if (stat.rdev !== 0n) this.#differ(path, "rdev", `${stat.rdev}`);
    if (stat.dev !== this.#rootDev) this.#differ(path, "st_dev", "another file system");
    for (const owner of ["uid", "gid"] as const) {
      const wanted = this.#options[owner];
      if (wanted !== undefined && stat[owner] !== wanted) {
        this.#differ(path, owner, `${stat[owner]}, not ${wanted}`);
      }
    }
    const other = this.#inodes.get(stat.ino);
    if (stat.ino === 0n) this.#differ(path, "st_ino", "0");
    else if (other !== undefined) {
      this.#differ(path, "st_ino", `${stat.ino}, as ${raw.printable(other)}`);
    } else this.#inodes.set(stat.ino, path);
  }

  #checkLink(dirFd: number, name: ByteString, path: ByteString, expected: Expected): void {
    this.#guarded(path, "readlink", () => {
      const target = raw.readlinkAt(dirFd, name);
      const hash = this.#blobHash(expected, target.length).update(target);
      if (hash.digest("hex") !== expected.oid) {
        this.#differ(path, "target", raw.printable(target));
      }
    });
  }

  #checkBytes(dirFd: number, name: ByteString, path: ByteString, expected: Expected): void {
    this.#guarded(path, "read", () => {
      const fd = raw.openat(dirFd, name, raw.O_RDONLY | raw.O_NOFOLLOW);
      try {
        // The name of the object that has the expected size: another number of bytes cannot match.
        const hash = this.#blobHash(expected, expected.size);
        let size = 0;
        for (;;) {
          const n = raw.read(fd, this.#buffer);
          if (n === 0) break;
          hash.update(this.#buffer.subarray(0, n));
          size += n;
        }
        this.#summary.bytes += size;
        if (size !== expected.size) {
          this.#differ(path, "bytes", `${size} read, not ${expected.size}`);
        } else if (hash.digest("hex") !== expected.oid) {
          const where = this.#firstDifference(fd, expected);
          this.#differ(path, "bytes", `${size} bytes, but not those of ${expected.oid}${where}`);
        }
      } finally {
        raw.close(fd);
      }
    });
  }

  #firstDifference(fd: number, expected: Expected): string {
    const { gitDir } = this.#options;
    if (gitDir === undefined || expected.size > 64 << 20) return "";
    const right = new Deno.Command("git", {
      args: ["--git-dir", gitDir, "cat-file", "blob", expected.oid],
      stderr: "null",
    }).outputSync().stdout;
    const found = new Uint8Array(expected.size);
    raw.lseek(fd, 0, raw.SEEK_SET);
    for (let at = 0; at < found.length;) {
      const n = raw.read(fd, found.subarray(at));
      if (n === 0) break;
      at += n;
    }
    const at = found.findIndex((byte, i) => byte !== right[i]);
    return at < 0 ? "; right when read again" : `; the first wrong byte is ${at}`;
  }

  #blobHash(expected: Expected, size: number) {
    return createHash(expected.oid.length === 40 ? "sha1" : "sha256").update(`blob ${size}\0`);
  }

  #guarded(path: ByteString, what: string, step: () => void): void {
    try {
      step();
    } catch (error) {
      if (!(error instanceof raw.RawFsError)) throw error;
      this.#differ(path, what, `${error.call}: ${raw.errnoName(error.errno)}`);
    }
  }

  #lookup(rootFd: number, path: ByteString): string {
    const errno = raw.errnoOf(() =>
      raw.close(raw.openDeep(rootFd, path, raw.O_PATH | raw.O_NOFOLLOW))
    );
    return errno === "" ? "lookup finds it" : `lookup says ${errno}`;
  }

  #ignored(path: ByteString): boolean {
    return (this.#options.ignore ?? []).some((ignored) =>
      path === ignored || path.startsWith(ignored + "/")
    );
  }

  /** git's checkout makes no directory for a tree without files. */
  #findEmptyTrees(): void {
    for (const [path, { kind }] of this.#expected) {
      if (kind === "dir") this.#emptyTrees.add(path);
      else {
        for (let at = path.length; (at = path.lastIndexOf("/", at - 1)) > 0;) {
          if (!this.#emptyTrees.delete(path.slice(0, at))) break;
        }
      }
    }
  }

  #differ(path: ByteString, what: string, detail: string): void {
    this.#summary.differenceCount++;
    if (this.#summary.differences.length < MAX_DIFFERENCES) {
      this.#summary.differences.push({ path: raw.printable(path), what, detail });
    }
  }
}

export interface RunCompareOptions extends CompareOptions {
  /** Guard in milliseconds, 300,000 unless told. */
  timeoutMs?: number;
}

/**
 * compare_main.ts in a process of its own. Returns its summary whether or not there are
 * differences; throws RunError when it could not compare or did not end in time.
 */
export async function runCompare(
  mountPoint: string,
  gitDir: string,
  commit: string,
  options: RunCompareOptions = {},
): Promise<CompareSummary> {
  const args = [
    "run",
    "-A",
    "--no-check",
    new URL("./compare_main.ts", import.meta.url).pathname,
    mountPoint,
    gitDir,
    commit,
    options.read ?? true ? "--read" : "--stat-only",
    `--order=${options.order ?? "tree"}`,
  ];
  if (options.uid !== undefined) args.push(`--uid=${options.uid}`);
  if (options.gid !== undefined) args.push(`--gid=${options.gid}`);
  if (options.checkout) args.push("--checkout");
  if (options.noGitfile) args.push("--no-gitfile");
  if (options.chunkBytes !== undefined) args.push(`--chunk-bytes=${options.chunkBytes}`);
  for (const path of options.ignore ?? []) args.push(`--ignore=${percentEncode(path)}`);
  const { stdout } = await run(Deno.execPath(), args, {
    okCodes: [0, 1],
    timeoutMs: options.timeoutMs ?? 300_000,
  });
  return JSON.parse(stdout) as CompareSummary;
}

/** A byte string as ASCII: everything but letters, digits and "/._-" as %XX. */
export function percentEncode(path: ByteString): string {
  return path.replace(
    /[^A-Za-z0-9/._-]/g,
    (unit) => "%" + unit.charCodeAt(0).toString(16).padStart(2, "0"),
  );
}

/** Undoes percentEncode. */
export function percentDecode(text: string): ByteString {
  return raw.fromUtf8(text).replace(
    /%([0-9a-fA-F]{2})/g,
    (_, hex) => String.fromCharCode(parseInt(hex, 16)),
  );
}
