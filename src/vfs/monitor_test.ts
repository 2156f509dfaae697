import assert from "node:assert/strict";
import { FakeObjects, fakeOid } from "../../tests/fakes/fake_objects.ts";
import {
  OverlayWorld,
  WORLD_ID,
  WORLD_SYNTHETIC_DIR,
  type WorldOptions,
} from "../../tests/fakes/overlay_world.ts";
import { ERRNO, FsError } from "../errno.ts";
import { Parked } from "../fuse/filesystem.ts";
import { firstToken } from "../monitor_names.ts";
import type { Name } from "../path.ts";
import type { MergedFilesystem } from "./merged_filesystem.ts";
import { SETTLE_KEY } from "./settling.ts";

const ROOT = fakeOid(1);
const SRC = fakeOid(2);
const DEEP = fakeOid(3);
const BLOB = fakeOid(4);
const ROOT_NODE = 1;
const CALLER = { uid: 5, gid: 6, pid: 7 };
const EVERYTHING = ["/"];
const name = (text: string) => text as Name;

function worldOf(options: Partial<WorldOptions> = {}): OverlayWorld {
  const objects = new FakeObjects();
  objects.putBlob(BLOB, "of the base")
    .putTree(ROOT, [
      { mode: "100644", name: "file", oid: BLOB },
      { mode: "40000", name: "src", oid: SRC },
    ])
    .putTree(SRC, [
      { mode: "40000", name: "deep", oid: DEEP },
      { mode: "100644", name: "main", oid: BLOB },
    ])
    .putTree(DEEP, [{ mode: "100644", name: "leaf", oid: BLOB }]);
  return new OverlayWorld({ objects, rootTreeOid: ROOT, ...options });
}

/** As the kernel does: component by component, and it holds what it has looked up. */
function walk(filesystem: MergedFilesystem, path: string): number {
  let at = ROOT_NODE;
  for (const part of path.split("/")) {
    if (part === "") continue;
    const { nodeid } = filesystem.lookup(at, name(part));
    if (nodeid === 0) throw new FsError(ERRNO.ENOENT, path);
    at = nodeid;
  }
  return at;
}

interface Answer {
  readonly token: string;
  readonly paths: readonly string[];
}

/** As `cat` reads it, and the kernel finishes at once what it is asked to. */
function ask(filesystem: MergedFilesystem, token: string): Answer {
  const nodeid = open(filesystem, token);
  try {
    return answerIn(filesystem, nodeid);
  } catch (error) {
    if (!(error instanceof Parked)) throw error;
    assert.equal(error.key, SETTLE_KEY);
    filesystem.settled(true);
    return answerIn(filesystem, nodeid);
  } finally {
    filesystem.forget(nodeid, 1);
  }
}

/** The file of an answer, which may have to wait. */
function open(filesystem: MergedFilesystem, token: string): number {
  const directory = walk(filesystem, `${WORLD_SYNTHETIC_DIR}/fsmonitor`);
  const entry = filesystem.lookup(directory, name(`t-${token}`));
  assert.equal(entry.entryTimeoutMs, 0);
  assert.equal(entry.attrTimeoutMs > 0, entry.attr.sizeBytes > 0);
  return entry.nodeid;
}

/** Throws Parked. */
function answerIn(filesystem: MergedFilesystem, nodeid: number): Answer {
  const { attr, attrTimeoutMs } = filesystem.getattr(nodeid);
  assert.ok(attrTimeoutMs > 0);
  const bytes = new Uint8Array(attr.sizeBytes + 10);
  const count = filesystem.read(nodeid, 0, bytes);
  assert.equal(count, attr.sizeBytes);
  const parts = new TextDecoder().decode(bytes.subarray(0, count)).split("\0");
  assert.equal(parts.pop(), "");
  return { token: parts[0] as string, paths: parts.slice(1) };
}

function placeOf(filesystem: MergedFilesystem, path: string): [number, Name] {
  const slash = path.lastIndexOf("/");
  return [walk(filesystem, path.slice(0, Math.max(slash, 0))), name(path.slice(slash + 1))];
}

const shell = (filesystem: MergedFilesystem) => ({
  write(path: string, text: string) {
    filesystem.write(walk(filesystem, path), 0, new TextEncoder().encode(text), null);
  },
  create(path: string) {
    filesystem.mknod(...placeOf(filesystem, path), 0o100644, 0, CALLER);
  },
  mkdir(path: string) {
    filesystem.mkdir(...placeOf(filesystem, path), 0o755, CALLER);
  },
  unlink(path: string) {
    filesystem.unlink(...placeOf(filesystem, path));
  },
  rmdir(path: string) {
    filesystem.rmdir(...placeOf(filesystem, path));
  },
  link(path: string, to: string) {
    filesystem.link(walk(filesystem, path), ...placeOf(filesystem, to));
  },
  rename(path: string, to: string, flags = 0) {
    filesystem.rename(...placeOf(filesystem, path), ...placeOf(filesystem, to), flags);
  },
  chmod(path: string, mode: number) {
    filesystem.setattr(walk(filesystem, path), { mode, killSuidGidFor: null });
  },
});

function changesOf(work: (sh: ReturnType<typeof shell>) => void, before = () => {}) {
  using world = worldOf();
  const { filesystem } = world;
  before();
  const { token } = ask(filesystem, firstToken(WORLD_ID));
  work(shell(filesystem));
  return ask(filesystem, token).paths;
}

Deno.test("before an answer the kernel forgets the attributes of what was written", () => {
  using world = worldOf();
  const { filesystem, stale } = world;
  const sh = shell(filesystem);
  const file = walk(filesystem, "src/main");
  const told = () => stale.splice(0);
  let { token } = ask(filesystem, firstToken(WORLD_ID));
  assert.deepEqual(told(), []);
  for (let i = 0; i < 2; i++) {
    sh.write("src/main", "a");
    sh.write("src/main", "b");
    assert.deepEqual(told(), []);
    const answer = ask(filesystem, token);
    assert.deepEqual(answer.paths, ["src/main"]);
    assert.deepEqual(told(), [file]);
    ({ token } = answer);
  }
  assert.deepEqual(ask(filesystem, token).paths, []);
  assert.deepEqual(told(), []);
});

Deno.test("nothing changed: a token and no path, again and again", () => {
  using world = worldOf();
  const first = ask(world.filesystem, firstToken(WORLD_ID));
  assert.deepEqual(first, { token: firstToken(WORLD_ID), paths: [] });
  assert.deepEqual(ask(world.filesystem, first.token), first);
});

Deno.test("tokens that are no token of this mount: everything", () => {
  using world = worldOf();
  const { filesystem } = world;
  shell(filesystem).create("new");
  const tokens = ["", "1700000000000", "builtin:0:1", "fedcba9876543210-0", `${WORLD_ID}-2`];
  for (const token of [...tokens, `${WORLD_ID}-`, `${WORLD_ID}-1x`, "../x", "*"]) {
    assert.deepEqual(ask(filesystem, token).paths, EVERYTHING, token);
  }
});

Deno.test("each kind of change", () => {
  assert.deepEqual(changesOf((sh) => sh.create("new")), ["new"]);
  assert.deepEqual(changesOf((sh) => sh.write("src/main", "x")), ["src/main"]);
  assert.deepEqual(changesOf((sh) => sh.chmod("src/main", 0o755)), ["src/main"]);
  assert.deepEqual(changesOf((sh) => sh.unlink("src/deep/leaf")), ["src/deep/leaf"]);
  assert.deepEqual(changesOf((sh) => sh.rename("file", "src/file")), ["file", "src/file"]);
  assert.deepEqual(changesOf((sh) => sh.link("file", "src/file")), ["src/file"]);
  assert.deepEqual(changesOf((sh) => sh.mkdir("src/new")), ["src/new/", "src/new/.afs"]);
});

Deno.test("a directory that moves names each directory below where it is now", () => {
  assert.deepEqual(changesOf((sh) => sh.rename("src", "lib")), [
    "src/",
    "lib/",
    "lib/.afs",
    "lib/deep/.afs",
  ]);
});

Deno.test("so it does below a later base, which may not have them", () => {
  using world = worldOf();
  const { filesystem, objects } = world;
  const sh = shell(filesystem);
  const to = fakeOid(5);
  const withoutDirectories = fakeOid(6);
  objects.putTree(to, [{ mode: "40000", name: "src", oid: withoutDirectories }])
    .putTree(withoutDirectories, [{ mode: "100644", name: "main", oid: BLOB }]);
  // The kernel holds it, so its ranks stay those of the first base.
  walk(filesystem, "src");
  const rebase = filesystem.rebase(to);
  while (rebase.turn(0) !== "done");
  const { token } = ask(filesystem, firstToken(WORLD_ID));
  sh.rename("src", "lib");
  assert.ok(ask(filesystem, token).paths.includes("lib/deep/.afs"));
  sh.unlink("lib/deep/leaf");
  sh.rmdir("lib/deep");
  sh.mkdir("lib/deep");
  const second = ask(filesystem, token);
  sh.rename("lib", "src");
  assert.ok(ask(filesystem, second.token).paths.includes("src/deep/.afs"));
});

Deno.test("a write is noted once for each token, whatever is asked between", () => {
  using world = worldOf();
  const { filesystem } = world;
  const sh = shell(filesystem);
  const { token } = ask(filesystem, firstToken(WORLD_ID));
  sh.write("file", "1");
  const { sequence } = world.overlay.journal;
  sh.write("file", "2");
  assert.equal(world.overlay.journal.sequence, sequence);
  const second = ask(filesystem, token);
  assert.deepEqual(second.paths, ["file"]);
  sh.write("file", "3");
  assert.deepEqual(ask(filesystem, second.token).paths, ["file"]);
  assert.deepEqual(ask(filesystem, token).paths, ["file"]);
});

Deno.test("a file is named under all of its names, also those nobody has looked up", () => {
  const dir = Deno.makeTempDirSync({ prefix: "afs-monitor-" });
  try {
    {
      using world = worldOf({ dir });
      const sh = shell(world.filesystem);
      sh.link("file", "src/deep/other");
    }
    using world = worldOf({ dir });
    const { token } = ask(world.filesystem, ask(world.filesystem, "").token);
    shell(world.filesystem).write("file", "x");
    assert.deepEqual(
      new Set(ask(world.filesystem, token).paths),
      new Set(["file", "src/deep/other"]),
    );
  } finally {
    Deno.removeSync(dir, { recursive: true });
  }
});

Deno.test("what a package manager unpacks is a path or two a directory", () => {
  const paths = changesOf((sh) => {
    sh.mkdir("modules");
    for (let i = 0; i < 20; i++) {
      sh.mkdir(`modules/${i}`);
      for (let j = 0; j < 20; j++) {
        sh.create(`modules/${i}/${j}`);
        sh.write(`modules/${i}/${j}`, "x");
      }
    }
  });
  assert.equal(paths.length, 42);
});

Deno.test("tokens live through a restart and a kill, not through the end of the machine", () => {
  const dir = Deno.makeTempDirSync({ prefix: "afs-monitor-" });
  const inWorld = <T>(bootId: string, end: "close" | "kill", work: (w: OverlayWorld) => T): T => {
    const world = worldOf({ dir, bootId });
    try {
      return work(world);
    } finally {
      if (end === "kill") world.kill();
      else world[Symbol.dispose]();
    }
  };
  try {
    const token = inWorld("1", "close", ({ filesystem }) => {
      shell(filesystem).create("a");
      return ask(filesystem, firstToken(WORLD_ID)).token;
    });
    inWorld("1", "kill", ({ filesystem }) => shell(filesystem).create("b"));
    inWorld("1", "close", ({ filesystem }) => {
      assert.deepEqual(ask(filesystem, token).paths, ["b"]);
    });
    inWorld("2", "kill", ({ filesystem }) => {
      assert.deepEqual(ask(filesystem, token).paths, ["b"]);
      shell(filesystem).create("c");
    });
    inWorld("3", "close", ({ filesystem }) => {
      const answer = ask(filesystem, token);
      assert.deepEqual(answer.paths, EVERYTHING);
      assert.ok(!answer.token.startsWith(WORLD_ID));
      const second = ask(filesystem, answer.token);
      assert.deepEqual(second.paths, [".afs", "src/.afs", "src/deep/.afs"]);
      assert.deepEqual(ask(filesystem, second.token).paths, []);
    });
  } finally {
    Deno.removeSync(dir, { recursive: true });
  }
});

Deno.test("what is synthetic is in no listing and cannot be changed", () => {
  using world = worldOf();
  const { filesystem } = world;
  const names: string[] = [];
  const add = (listed: Name) => names.push(listed) > 0;
  filesystem.readdir(ROOT_NODE, 0, { fits: () => true, add, addPlus: add });
  assert.ok(!names.includes(WORLD_SYNTHETIC_DIR), names.join(" "));
  const refused = (errno: number, work: () => unknown) => {
    assert.throws(work, (error) => error instanceof FsError && error.errno === errno);
  };
  const sh = shell(filesystem);
  const directory = walk(filesystem, WORLD_SYNTHETIC_DIR);
  const inner = walk(filesystem, `${WORLD_SYNTHETIC_DIR}/fsmonitor`);
  const answer = filesystem.lookup(inner, name("t-")).nodeid;
  refused(ERRNO.EEXIST, () => sh.create(WORLD_SYNTHETIC_DIR));
  refused(ERRNO.EEXIST, () => sh.mkdir(WORLD_SYNTHETIC_DIR));
  refused(ERRNO.EPERM, () => sh.rmdir(WORLD_SYNTHETIC_DIR));
  refused(ERRNO.EPERM, () => sh.rename(WORLD_SYNTHETIC_DIR, "x"));
  refused(ERRNO.EPERM, () => sh.rename("src", WORLD_SYNTHETIC_DIR));
  for (const parent of [directory, inner]) {
    refused(ERRNO.EPERM, () => filesystem.mknod(parent, name("x"), 0o100644, 0, CALLER));
    refused(ERRNO.EPERM, () => filesystem.tmpfile(parent, 0o644, CALLER));
    refused(ERRNO.EPERM, () => filesystem.unlink(parent, name("x")));
    refused(ERRNO.EPERM, () => filesystem.setattr(parent, { mode: 0, killSuidGidFor: null }));
  }
  refused(ERRNO.EPERM, () => filesystem.write(answer, 0, new Uint8Array(1), null));
  refused(ERRNO.EPERM, () => filesystem.setattr(answer, { sizeBytes: 0, killSuidGidFor: null }));
  refused(ERRNO.EPERM, () => filesystem.link(answer, ROOT_NODE, name("x")));
  assert.equal(filesystem.lookup(directory, name("other")).nodeid, 0);
  assert.equal(filesystem.lookup(inner, name("other")).nodeid, 0);
});

/** What git keeps of a work tree, and believes as long as no answer says otherwise. */
class GitModel {
  token = firstToken(WORLD_ID);
  /** Every file, and what is known of it: the index, all of it valid. */
  index = new Map<string, string>();
  /** Names directly in each directory that was ever read: the untracked cache. */
  readonly directories = new Map<string, { names: string; isValid: boolean }>();

  /** What `git status` would take for true, after asking. */
  status(world: OverlayWorld): void {
    this.#ask(world, true);
  }

  /** A command that writes the index and reads no directory: `git reset`. */
  refresh(world: OverlayWorld): void {
    this.#ask(world, false);
  }

  #ask({ filesystem }: OverlayWorld, readsDirectories: boolean): void {
    const { token, paths } = ask(filesystem, this.token);
    this.token = token;
    const invalid = new Set<string>();
    const everything = paths[0] === "/";
    for (const path of paths) this.#invalidate(path, invalid);
    const seen = new Map<string, string>();
    const directories = readsDirectories ? this.directories : new Map();
    this.#read(filesystem, "", everything, seen, directories);
    for (const [path, identity] of this.index) {
      if (everything || invalid.has(path)) continue;
      assert.equal(seen.get(path), identity, `${path} is not what git takes it for`);
    }
    this.index = seen;
  }

  #invalidate(path: string, invalid: Set<string>): void {
    const plain = path.replace(/\/$/, "");
    for (const known of this.index.keys()) {
      if (known === plain || known.startsWith(`${plain}/`)) invalid.add(known);
    }
    for (let at = plain; at !== "";) {
      at = at.slice(0, Math.max(at.lastIndexOf("/"), 0));
      const directory = this.directories.get(at);
      if (directory !== undefined) directory.isValid = false;
    }
  }

  #read(
    filesystem: MergedFilesystem,
    path: string,
    everything: boolean,
    seen: Map<string, string>,
    directories: GitModel["directories"],
  ): void {
    const names = listing(filesystem, path);
    const known = directories.get(path);
    if (known?.isValid && !everything) {
      assert.equal(known.names, names.join(" "), `names in /${path} are not what git believes`);
    }
    directories.set(path, { names: names.join(" "), isValid: true });
    for (const entry of names) {
      const child = path === "" ? entry : `${path}/${entry}`;
      const { attr } = filesystem.getattr(walk(filesystem, child));
      if ((attr.mode & 0o170000) === 0o040000) {
        this.#read(filesystem, child, everything, seen, directories);
      } else seen.set(child, identityOf(filesystem, child));
    }
  }
}

function listing(filesystem: MergedFilesystem, path: string): string[] {
  const names: string[] = [];
  const add = (listed: Name) => names.push(listed) > 0;
  filesystem.readdir(walk(filesystem, path), 0, { fits: () => true, add, addPlus: add });
  return names.filter((listed) => ![".", "..", ".git"].includes(listed)).sort();
}

/** What a commit would hold of it. */
function identityOf(filesystem: MergedFilesystem, path: string): string {
  const nodeid = walk(filesystem, path);
  const bytes = new Uint8Array(100);
  const count = filesystem.read(nodeid, 0, bytes);
  const text = new TextDecoder().decode(bytes.subarray(0, count));
  return `${filesystem.getattr(nodeid).attr.mode & 0o100} ${text}`;
}

/** Small and the same for a seed (mulberry32). */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

Deno.test("a directory comes back after something changed in it elsewhere", () => {
  using world = worldOf();
  const sh = shell(world.filesystem);
  const git = new GitModel();
  for (
    const step of [
      () => (sh.mkdir("a"), sh.mkdir("a/b")),
      () => sh.rename("a", "c"),
      () => sh.create("c/b/new"),
      () => sh.rename("c", "a"),
    ]
  ) {
    step();
    git.status(world);
  }
});

Deno.test("who has got everything, and has read no directory, hears of them again", () => {
  using world = worldOf();
  const git = new GitModel();
  git.status(world);
  shell(world.filesystem).create("src/new");
  git.token = "";
  git.refresh(world);
  git.status(world);
});

Deno.test("whatever happens between two tokens, git takes nothing for unchanged that is not", () => {
  for (let seed = 1; seed <= 40; seed++) {
    const next = random(seed);
    const pick = <T>(from: readonly T[]) => from[next(from.length)] as T;
    const path = () =>
      Array.from({ length: 1 + next(3) }, () => pick(["src", "deep", "a", "b"])).join("/");
    const dir = Deno.makeTempDirSync({ prefix: "afs-monitor-" });
    let world = worldOf({ dir });
    const git = new GitModel();
    const log: string[] = [];
    try {
      git.token = ask(world.filesystem, "").token;
      git.status(world);
      for (let step = 0; step < 60; step++) {
        const sh = shell(world.filesystem);
        const call = pick(
          ["write", "create", "mkdir", "unlink", "rmdir", "rename", "rename"] as const,
        );
        const more = pick(
          [
            "chmod",
            "link",
            "exchange",
            "status",
            "refresh",
            "lose",
            "restart",
            call,
            call,
          ] as const,
        );
        const [from, to] = [path(), path()];
        log.push(`${more} ${from} ${to}`);
        try {
          if (more === "status" || more === "refresh") git[more](world);
          else if (more === "lose") git.token = next(4) === 0 ? "" : git.token;
          else if (more === "restart") {
            if (next(2) === 0) world.kill();
            else world[Symbol.dispose]();
            world = worldOf({ dir });
          } else if (more === "exchange") sh.rename(from, to, 2);
          else if (more === "chmod") sh.chmod(from, pick([0o644, 0o755]));
          else if (more === "write") sh.write(from, `${step}`);
          else if (more === "rename") sh.rename(from, to);
          else if (more === "link") sh.link(from, to);
          else sh[more as "create" | "mkdir" | "unlink" | "rmdir"](from);
        } catch (error) {
          if (!(error instanceof FsError)) throw error;
        }
      }
      git.status(world);
    } catch (error) {
      throw new Error(`seed ${seed}: ${log.join("; ")}`, { cause: error });
    } finally {
      world[Symbol.dispose]();
      Deno.removeSync(dir, { recursive: true });
    }
  }
});
