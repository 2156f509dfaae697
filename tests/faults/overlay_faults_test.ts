/**
 * Every mutation, stopped at each of its steps: by a kill, after which the overlay is opened again
 * and must show the state before or the one after, and by an error, after which the same mount must
 * show it too.
 */

import assert from "node:assert/strict";
import { ERRNO, FsError } from "../../src/errno.ts";
import type { Oid } from "../../src/git/oid.ts";
import type { Overlay } from "../../src/overlay/overlay.ts";
import type { Name } from "../../src/path.ts";
import { FakeObjects, fakeOid } from "../fakes/fake_objects.ts";
import { OverlayWorld, WORLD_SYNTHETIC_DIR } from "../fakes/overlay_world.ts";
import { PathDriver } from "../fakes/path_driver.ts";
import { checkInvariants } from "../support/overlay_invariants.ts";

const ROOT = fakeOid(0x100);
const SRC = fakeOid(0x101);
const DEEP = fakeOid(0x102);
const OTHER = fakeOid(0x103);
/** Of another commit. */
const NEXT = fakeOid(0x110);
const NEXT_SRC = fakeOid(0x111);
const FRESH = fakeOid(0x112);

function base(): FakeObjects {
  const blob = (number: number, text: string): Oid => {
    objects.putBlob(fakeOid(number), text);
    return fakeOid(number);
  };
  const objects = new FakeObjects();
  objects.putTree(ROOT, [
    { mode: "100644", name: "README", oid: blob(0x200, "read me") },
    { mode: "120000", name: "link", oid: blob(0x201, "README") },
    { mode: "40000", name: "other", oid: OTHER },
    { mode: "40000", name: "src", oid: SRC },
    { mode: "100755", name: "tool", oid: blob(0x202, "#!/bin/sh") },
  ]);
  objects.putTree(SRC, [
    { mode: "40000", name: "deep", oid: DEEP },
    { mode: "100644", name: "main", oid: blob(0x203, "main") },
  ]);
  objects.putTree(DEEP, [{ mode: "100644", name: "a", oid: blob(0x204, "aaa") }]);
  objects.putTree(OTHER, [{ mode: "100644", name: "x", oid: blob(0x205, "x") }]);
  objects.putTree(NEXT, [
    { mode: "40000", name: "fresh", oid: FRESH },
    { mode: "100644", name: "link", oid: blob(0x206, "a file now") },
    { mode: "40000", name: "other", oid: OTHER },
    { mode: "40000", name: "src", oid: NEXT_SRC },
    { mode: "100644", name: "tool", oid: fakeOid(0x202) },
  ]);
  objects.putTree(NEXT_SRC, [
    { mode: "40000", name: "deep", oid: DEEP },
    { mode: "100644", name: "other", oid: blob(0x207, "other") },
  ]);
  objects.putTree(FRESH, [{ mode: "100644", name: "f", oid: blob(0x208, "fresh") }]);
  return objects;
}

/** A token of the file monitor, with which nothing is new. */
function tokenOf(driver: PathDriver): string {
  const path = `${WORLD_SYNTHETIC_DIR}/fsmonitor/t-unknown`;
  const [token = ""] = driver.with(path, (nodeid) => driver.read(nodeid)).split("\0");
  return token.replace(/u$/, "");
}

/** What was done before, so that the overlay is not empty. */
function prepare(driver: PathDriver): void {
  driver.mkdir("new");
  driver.create("new/f");
  driver.write("new/f", 0, "filled");
  driver.create("new/g");
  driver.link("new/g", "new/h");
  driver.mkdir("new/empty");
  driver.unlink("other/x");
  driver.setattr("src/deep/a", { mode: 0o600 });
}

interface Mutation {
  readonly name: string;
  readonly run: (driver: PathDriver) => void;
}

const RENAME_EXCHANGE = 2;

const MUTATIONS: readonly Mutation[] = [
  { name: "create at the root", run: (d) => d.create("made") },
  { name: "create deep in the base", run: (d) => d.create("src/deep/made") },
  { name: "create in a place that was removed", run: (d) => d.create("other/x", 0o755) },
  { name: "mkdir", run: (d) => d.mkdir("src/dir") },
  { name: "symlink", run: (d) => d.symlink("somewhere", "src/symlink") },
  { name: "fifo", run: (d) => d.mknod("src/fifo", 0o010644, 0) },
  { name: "link of a base file", run: (d) => d.link("README", "src/again") },
  { name: "link of a base link", run: (d) => d.link("link", "again") },
  { name: "link of a file made here", run: (d) => d.link("new/f", "src/f") },
  { name: "write to a base file", run: (d) => d.write("src/main", 2, "XY") },
  { name: "write to a file made here", run: (d) => d.write("new/f", 10, "more") },
  { name: "cut a base file to nothing", run: (d) => d.setattr("tool", { sizeBytes: 0 }) },
  { name: "cut a base file", run: (d) => d.setattr("tool", { sizeBytes: 4 }) },
  { name: "grow a base file", run: (d) => d.setattr("tool", { sizeBytes: 40 }) },
  { name: "cut a file made here", run: (d) => d.setattr("new/f", { sizeBytes: 1 }) },
  { name: "chmod of a base file", run: (d) => d.setattr("README", { mode: 0o400 }) },
  { name: "chmod of a base directory", run: (d) => d.setattr("src", { mode: 0o700 }) },
  { name: "chown of a base link", run: (d) => d.setattr("link", { uid: 7, gid: 8 }) },
  {
    name: "utimens of a base file",
    run: (d) => d.setattr("README", { mtime: { seconds: 5, nanoseconds: 6 } }),
  },
  { name: "unlink of a base file", run: (d) => d.unlink("src/main") },
  { name: "unlink of a file made here", run: (d) => d.unlink("new/f") },
  { name: "unlink of one of two names", run: (d) => d.unlink("new/h") },
  { name: "rmdir of a directory made here", run: (d) => d.rmdir("new/empty") },
  { name: "rmdir of a base directory that was emptied", run: (d) => d.rmdir("other") },
  { name: "rename of a base file", run: (d) => d.rename("README", "src/README") },
  { name: "rename of a base directory", run: (d) => d.rename("src", "new/src") },
  { name: "rename of a directory made here", run: (d) => d.rename("new", "src/new") },
  { name: "rename of a base file over one made here", run: (d) => d.rename("tool", "new/f") },
  { name: "rename over a base file", run: (d) => d.rename("new/f", "README") },
  { name: "rename over one of two names", run: (d) => d.rename("tool", "new/g") },
  { name: "rename over an empty directory", run: (d) => d.rename("src/deep", "new/empty") },
  { name: "rename back to a name of the base", run: (d) => d.rename("new/f", "other/x") },
  {
    name: "exchange of a base directory and a file",
    run: (d) => d.rename("src/deep", "new/f", RENAME_EXCHANGE),
  },
  {
    name: "exchange of two base files",
    run: (d) => d.rename("README", "src/main", RENAME_EXCHANGE),
  },
  {
    name: "switch to another commit",
    run: (d) => void d.filesystem.switchTo({ from: ROOT, to: NEXT, token: tokenOf(d) }),
  },
  {
    name: "setxattr of a base file",
    run: (d) =>
      d.with(
        "README",
        (node) => d.filesystem.setxattr(node, "user.a" as Name, Uint8Array.of(1), 0),
      ),
  },
  {
    name: "unlink while open, written after",
    run(d) {
      const held = d.hold("src/main");
      d.unlink("src/main");
      d.filesystem.write(held.nodeid, 0, Uint8Array.of(65), null);
      held.release();
    },
  },
];

/** Not an error of the file system: the process ends here. */
class Killed extends Error {}

/** Counts the steps of an overlay and stops at one of them. */
class Stopper {
  steps = 0;
  /** Only the mutation is stopped, not the looking at what it left. */
  armed = true;
  #stopped = false;
  readonly #at: number;
  readonly #fail: () => Error;

  constructor(at: number, fail: () => Error) {
    this.#at = at;
    this.#fail = fail;
  }

  step(): void {
    if (!this.armed) return;
    this.steps++;
    const error = this.#fail();
    // Who is dead does nothing more.
    if (this.#stopped && error instanceof Killed) throw error;
    if (this.steps !== this.#at) return;
    this.#stopped = true;
    throw error;
  }

  wrap(overlay: Overlay): Overlay {
    const stepped = <T extends object>(target: T, names: readonly string[], after: string[]): T =>
      new Proxy(target, {
        get: (object, key) => {
          const value = Reflect.get(object, key, object);
          if (typeof value !== "function") return value;
          return (...args: unknown[]) => {
            if (names.includes(String(key))) this.step();
            const result = value.apply(object, args);
            // Done, and killed before anybody hears of it.
            if (after.includes(String(key)) && this.#fail() instanceof Killed) this.step();
            return result;
          };
        },
      });
    const upper = stepped(overlay.upper, ["fd"], []);
    // removeBackingFile never fails, but somebody may be killed around it.
    const around = this.#fail() instanceof Killed ? ["removeBackingFile"] : [];
    const proxy = stepped(
      overlay,
      ["commit", "allocateIno", "createBackingFile", "syncBackingFile", ...around],
      ["commit", "createBackingFile", "syncBackingFile", ...around],
    );
    return new Proxy(proxy, {
      get: (object, key) => key === "upper" ? upper : Reflect.get(object, key, object),
    });
  }
}

function copyDir(from: string): string {
  const to = Deno.makeTempDirSync({ prefix: "afs-faults-" });
  Deno.mkdirSync(`${to}/upper`);
  for (const part of ["", "upper/"]) {
    for (const { name, isFile } of Deno.readDirSync(`${from}/${part}`)) {
      if (isFile) Deno.copyFileSync(`${from}/${part}${name}`, `${to}/${part}${name}`);
    }
  }
  return to;
}

interface Fixture {
  readonly dir: string;
  readonly before: string[];
}

function prepared(): Fixture {
  const dir = Deno.makeTempDirSync({ prefix: "afs-faults-" });
  using world = new OverlayWorld({ objects: base(), rootTreeOid: ROOT, dir });
  const driver = new PathDriver(world.filesystem);
  prepare(driver);
  return { dir, before: driver.snapshot() };
}

function open(dir: string, stopper?: Stopper): { world: OverlayWorld; driver: PathDriver } {
  const world = new OverlayWorld({
    objects: base(),
    rootTreeOid: ROOT,
    dir,
    xattrs: true,
    ...(stopper === undefined ? {} : { wrap: (overlay) => stopper.wrap(overlay) }),
  });
  return { world, driver: new PathDriver(world.filesystem) };
}

/** The state that the mutation leads to, in memory and after a restart. */
function expected(fixture: Fixture, { run }: Mutation): string[] {
  const dir = copyDir(fixture.dir);
  const first = open(dir);
  run(first.driver);
  const after = first.driver.snapshot();
  first.world[Symbol.dispose]();
  checkInvariants(dir, true);
  const second = open(dir);
  assert.deepEqual(second.driver.snapshot(), after, "the same after a restart");
  second.world[Symbol.dispose]();
  Deno.removeSync(dir, { recursive: true });
  return after;
}

function either(actual: string[], before: string[], after: string[], what: string): void {
  const same = (a: string[], b: string[]) => a.length === b.length && a.every((x, i) => x === b[i]);
  if (same(actual, before) || same(actual, after)) return;
  assert.deepEqual(actual, after, `${what}: neither the state before nor the one after`);
}

for (const mutation of MUTATIONS) {
  Deno.test(`${mutation.name}: killed at each step, it is before or after`, () => {
    const fixture = prepared();
    const after = expected(fixture, mutation);
    for (let at = 1;; at++) {
      const dir = copyDir(fixture.dir);
      const stopper = new Stopper(at, () => new Killed());
      const { world, driver } = open(dir, stopper);
      let killed = false;
      try {
        mutation.run(driver);
      } catch (error) {
        if (!(error instanceof Killed)) throw error;
        killed = true;
      }
      world.kill();
      checkInvariants(dir, false);
      const again = open(dir);
      either(again.driver.snapshot(), fixture.before, after, `step ${at}`);
      again.world[Symbol.dispose]();
      checkInvariants(dir, true);
      Deno.removeSync(dir, { recursive: true });
      if (!killed) break;
    }
    Deno.removeSync(fixture.dir, { recursive: true });
  });

  Deno.test(`${mutation.name}: failed at each step, it is before or after`, () => {
    const fixture = prepared();
    const after = expected(fixture, mutation);
    for (let at = 1;; at++) {
      const dir = copyDir(fixture.dir);
      const stopper = new Stopper(at, () => new FsError(ERRNO.ENOSPC));
      const { world, driver } = open(dir, stopper);
      let failed = false;
      try {
        mutation.run(driver);
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
        assert.equal(error.errno, ERRNO.ENOSPC);
        failed = true;
      }
      const happened = stopper.steps < at;
      stopper.armed = false;
      const live = driver.snapshot();
      either(live, fixture.before, after, `step ${at}`);
      if (!failed) assert.deepEqual(live, after);
      world[Symbol.dispose]();
      checkInvariants(dir, true);
      const again = open(dir);
      assert.deepEqual(again.driver.snapshot(), live, `step ${at}, after a restart`);
      again.world[Symbol.dispose]();
      Deno.removeSync(dir, { recursive: true });
      if (happened) break;
    }
    Deno.removeSync(fixture.dir, { recursive: true });
  });
}
