import assert from "node:assert/strict";
import fc from "fast-check";
import { FsError } from "../errno.ts";
import type { DirentSink } from "../fuse/filesystem.ts";
import { ROOT_INO } from "./ino.ts";
import type { PathDriver } from "../../tests/fakes/path_driver.ts";
import {
  blobOid,
  Lab,
  Link,
  Module,
  overwrite,
  put,
  Shout,
  type Spec,
  Tool,
} from "../../tests/fakes/rebase_lab.ts";
import { checkInvariants } from "../../tests/support/overlay_invariants.ts";

const NAMES = ["a", "b", "c", "d"];
const TEXTS = ["", "one", "two", "a longer text"];

const text = fc.constantFrom(...TEXTS);
const leaf = fc.oneof(
  { weight: 5, arbitrary: text },
  text.map((each) => new Tool(each)),
  { weight: 2, arbitrary: text.map((each) => new Shout(each)) },
  text.filter((each) => each !== "").map((each) => new Link(each)),
  fc.constantFrom("1", "2").map((digit) => new Module(digit)),
);
/** So many levels of directories. */
function specOf(depth: number): fc.Arbitrary<Spec> {
  const value: fc.Arbitrary<Spec[string]> = depth === 0
    ? leaf
    : fc.oneof({ weight: 2, arbitrary: leaf }, specOf(depth - 1));
  return fc.dictionary(fc.constantFrom(...NAMES), value, { maxKeys: 4, noNullPrototype: true });
}
const spec = specOf(2);
const path = fc.array(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 3 })
  .map((parts) => parts.join("/"));

type Op = (driver: PathDriver) => void;
const op: fc.Arbitrary<Op> = fc.oneof(
  path.map((at) => (d: PathDriver) => d.create(at)),
  fc.tuple(path, text).map(([at, to]) => (d: PathDriver) => overwrite(d, at, to)),
  fc.tuple(path, text).map(([at, to]) => (d: PathDriver) => d.write(at, 0, to)),
  path.map((at) => (d: PathDriver) => d.mkdir(at)),
  path.map((at) => (d: PathDriver) => d.symlink("one", at)),
  path.map((at) => (d: PathDriver) => d.unlink(at)),
  path.map((at) => (d: PathDriver) => d.rmdir(at)),
  fc.tuple(path, path).map(([at, to]) => (d: PathDriver) => d.link(at, to)),
  fc.tuple(path, path, fc.constantFrom(0, 0, 2)).map(([at, to, flags]) => (d: PathDriver) =>
    d.rename(at, to, flags)
  ),
  fc.tuple(path, fc.constantFrom(0o644, 0o755, 0o600)).map(([at, mode]) => (d: PathDriver) =>
    d.setattr(at, { mode })
  ),
  path.map((at) => (d: PathDriver) => d.setattr(at, { mtime: { seconds: 7, nanoseconds: 8 } })),
);

function run(driver: PathDriver, each: Op): void {
  try {
    each(driver);
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
  }
}

/** As `git checkout` does. */
function writeTree(driver: PathDriver, from: Spec, to: Spec, at = ""): void {
  for (const [name, value] of Object.entries(from)) {
    const path = `${at}${name}`;
    const next = to[name];
    if (isSpec(value) && isSpec(next)) writeTree(driver, value, next, `${path}/`);
    else if (JSON.stringify(value) !== JSON.stringify(next) || kindOf(value) !== kindOf(next)) {
      remove(driver, value, path);
    } else continue;
    if (isSpec(value) && isSpec(next)) continue;
    if (next !== undefined) write(driver, next, path);
  }
  for (const [name, value] of Object.entries(to)) {
    if (from[name] === undefined) write(driver, value, `${at}${name}`);
  }
}

function isSpec(value: Spec[string] | undefined): value is Spec {
  return typeof value === "object" && kindOf(value) === "Object";
}

function kindOf(value: Spec[string] | undefined): string | undefined {
  return value?.constructor.name;
}

function remove(driver: PathDriver, value: Spec[string], path: string): void {
  if (isSpec(value)) {
    for (const [name, each] of Object.entries(value)) remove(driver, each, `${path}/${name}`);
    driver.rmdir(path);
  } else if (value instanceof Module) driver.rmdir(path);
  else driver.unlink(path);
}

function write(driver: PathDriver, value: Spec[string], path: string): void {
  if (value instanceof Link) driver.symlink(value.target, path);
  else if (value instanceof Module) driver.mkdir(path);
  else if (isSpec(value)) {
    driver.mkdir(path);
    writeTree(driver, {}, value, `${path}/`);
  } else {
    driver.create(path, value instanceof Tool ? 0o755 : 0o644);
    const shown = value instanceof Shout ? value.shown : value instanceof Tool ? value.text : value;
    driver.write(path, 0, shown);
  }
}

Deno.test("property: nothing that shows changes, at any step, nor after a restart", () => {
  fc.assert(
    fc.property(spec, spec, spec, fc.array(op), fc.array(path), (a, b, c, ops, held) => {
      using lab = new Lab(a);
      for (const each of ops) run(lab.driver, each);
      for (const each of held) run(lab.driver, (driver) => driver.hold(each));
      const before = lab.snapshot();
      for (const to of [b, c, a]) {
        lab.rebase(to, () => assert.deepEqual(lab.snapshot(), before));
      }
      lab.reopen({ kill: false });
      assert.deepEqual(lab.snapshot(), before, "after a restart");
      lab.rebase(b);
      assert.deepEqual(lab.snapshot(), before, "back to the second");
    }),
    { numRuns: 50 },
  );
});

Deno.test("property: what is changed meanwhile shows as without a rebase", () => {
  fc.assert(
    fc.property(
      spec,
      spec,
      fc.array(op),
      fc.array(op),
      fc.array(path),
      (a, b, ops, later, held) => {
        using plain = new Lab(a);
        using lab = new Lab(a);
        const both = (each: Op) => {
          run(plain.driver, each);
          run(lab.driver, each);
        };
        for (const each of ops) both(each);
        for (const each of held) both((driver) => driver.hold(each));
        const queue = [...later];
        for (const to of [b, a]) {
          lab.rebase(to, () => {
            const next = queue.shift();
            if (next !== undefined) both(next);
            assert.deepEqual(lab.driver.snapshot(), plain.driver.snapshot());
          });
        }
        lab.reopen({ kill: false });
        assert.deepEqual(lab.driver.snapshot(), plain.driver.snapshot());
        for (const each of queue) both(each);
        assert.deepEqual(lab.driver.snapshot(), plain.driver.snapshot());
      },
    ),
    { numRuns: 50 },
  );
});

Deno.test("property: killed after any step, it shows the same, and can be gone on with", () => {
  fc.assert(
    fc.property(spec, spec, fc.array(op, { maxLength: 6 }), (a, b, ops) => {
      const turns = fc.sample(fc.nat({ max: 12 }), 3);
      using lab = new Lab(a);
      for (const each of ops) run(lab.driver, each);
      const before = lab.snapshot();
      for (const kill of turns) {
        const rebase = lab.world.filesystem.rebase(put(lab.objects, b));
        for (let turn = 0; turn < kill && rebase.turn(0) !== "done";) turn++;
        lab.reopen({ kill: true });
        assert.deepEqual(lab.snapshot(), before, `killed after ${kill}`);
        checkInvariants(lab.dir, false);
      }
      lab.rebase(b);
      assert.deepEqual(lab.snapshot(), before);
    }),
    { numRuns: 30 },
  );
});

Deno.test("property: a transaction that fails ends it, and changes nothing", () => {
  fc.assert(
    fc.property(spec, spec, fc.array(op, { maxLength: 6 }), (a, b, ops) => {
      using lab = new Lab(a);
      for (const each of ops) run(lab.driver, each);
      const before = lab.snapshot();
      for (let failAt = 1, failed = true; failed; failAt++) {
        lab.failAt = failAt;
        failed = false;
        try {
          lab.rebase(b);
        } catch (error) {
          if (!(error instanceof FsError)) throw error;
          failed = true;
        }
        assert.deepEqual(lab.snapshot(), before, `failed at ${failAt}`);
      }
      lab.failAt = 0;
      lab.reopen({ kill: false });
      assert.deepEqual(lab.snapshot(), before);
    }),
    { numRuns: 30 },
  );
});

Deno.test("property: a work tree that equals the new base has no changes and no backing files", async () => {
  await fc.assert(
    fc.asyncProperty(spec, spec, spec, async (a, b, c) => {
      using lab = new Lab(a);
      let from = a;
      for (const to of [b, c, a]) {
        writeTree(lab.driver, from, to);
        const before = lab.snapshot();
        lab.rebase(to);
        assert.deepEqual(lab.snapshot(), before);
        assert.deepEqual(await lab.counts(), [0, 0, 0]);
        lab.world.overlay.sync(null, { dataOnly: false });
        assert.deepEqual(lab.world.overlay.upper.inos(), []);
        from = to;
      }
      lab.reopen({ kill: false });
      assert.deepEqual(await lab.counts(), [0, 0, 0]);
    }),
    { numRuns: 50 },
  );
});

Deno.test("a listing under way gives every name once, whatever the base becomes", () => {
  const many = (from: number, to: number): Spec =>
    Object.fromEntries(
      Array.from({ length: to - from }, (_, i) => [`n${from + i}`, String(from + i)]),
    );
  using lab = new Lab({ dir: many(100, 180), z: "z" });
  const { driver } = lab;
  driver.create("dir/own");
  driver.unlink("dir/n105");
  const { nodeid } = driver.hold("dir");
  const wanted = driver.names(nodeid).sort();
  const bases = [
    { dir: many(150, 260) },
    { dir: many(0, 120) },
    { dir: "a file" },
    { dir: { ...many(100, 180), own: "" } },
    {},
    { dir: many(100, 180) },
  ];
  const seen: string[] = [];
  let cookie = 0;
  for (const base of [...bases, ...bases]) {
    let room = 7;
    const sink: DirentSink = {
      fits: () => true,
      add(name, _ino, _type, next) {
        if (room-- === 0) return false;
        seen.push(name);
        cookie = next;
        return true;
      },
      addPlus: () => false,
    };
    lab.world.filesystem.readdir(nodeid, cookie, sink);
    lab.rebase(base);
    assert.deepEqual(driver.names(nodeid).sort(), wanted);
  }
  assert.deepEqual(seen.filter((name) => name !== "." && name !== "..").sort(), wanted);
});

Deno.test("killed in the middle of a large directory", () => {
  const many = (from: number, to: number, text: string): Spec =>
    Object.fromEntries(Array.from({ length: to - from }, (_, i) => [`n${from + i}`, text]));
  const to = { dir: many(80, 200, "two") };
  using lab = new Lab({ dir: many(0, 150, "one") });
  lab.driver.unlink("dir/n100");
  const before = lab.snapshot();
  for (let kill = 1, ended = false; !ended; kill++) {
    const rebase = lab.world.filesystem.rebase(put(lab.objects, to));
    for (let turn = 0; turn < kill && !ended; turn++) ended = rebase.turn(0) === "done";
    lab.reopen({ kill: true });
    assert.deepEqual(lab.snapshot(), before);
    checkInvariants(lab.dir, false);
  }
  lab.rebase({ dir: many(0, 150, "one") });
  assert.deepEqual(lab.snapshot(), before);
});

Deno.test("a large file is released in several turns, and not when it is written meanwhile", () => {
  const big = "x".repeat(5 * 1024 * 1024);
  using lab = new Lab({ f: "small" });
  const { driver } = lab;
  driver.write("f", 0, big);
  const upper = () => lab.world.overlay.upper.inos().length;
  while (!isOld(lab)) { /* a tick of the clock */ }
  const { nodeid, release } = driver.hold("f");
  lab.rebase({ f: big }, (turn) => {
    if (turn === 3) lab.world.filesystem.write(nodeid, 0, Uint8Array.of(0x79), null);
  });
  assert.equal(upper(), 1);
  lab.world.filesystem.write(nodeid, 0, Uint8Array.of(0x78), null);
  while (!isOld(lab)) { /* a tick of the clock */ }
  assert.ok(lab.rebase({ f: big }) > 3);
  lab.world.overlay.sync(null, { dataOnly: false });
  assert.equal(upper(), 0);
  // The backing file that comes next is another one.
  lab.world.filesystem.write(nodeid, 0, Uint8Array.of(0x7a), null);
  lab.world.overlay.sync(null, { dataOnly: false });
  assert.equal(upper(), 1);
  release();
});

/** The file's last change is in a tick of the clock that is over. */
function isOld(lab: Lab): boolean {
  const { ctimeSeconds, ctimeNanoseconds } = lab.driver.with(
    "f",
    (nodeid) => lab.world.filesystem.getattr(nodeid).attr,
  );
  return Date.now() > ctimeSeconds * 1000 + ctimeNanoseconds / 1e6 + 20;
}

Deno.test("a retired backing file is not taken for the one that follows it", () => {
  using lab = new Lab({ f: "one" });
  const { driver } = lab;
  overwrite(driver, "f", "two");
  lab.rebase({ f: "two" });
  driver.write("f", 0, "T");
  lab.world.overlay.sync(null, { dataOnly: false });
  assert.equal(driver.with("f", (nodeid) => driver.read(nodeid)), "Two");
});

Deno.test("a file that differs is read once for each change of it", () => {
  using lab = new Lab({ f: "one" });
  const { driver } = lab;
  overwrite(driver, "f", "own");
  const { upper } = lab.world.overlay;
  const original = upper.fd.bind(upper);
  let reads = 0;
  upper.fd = (ino) => {
    reads++;
    return original(ino);
  };
  const after = (to: Spec) => {
    reads = 0;
    lab.rebase(to);
    return reads;
  };
  assert.equal(after({ f: "two" }), 1);
  assert.equal(after({ f: "two" }), 0);
  assert.equal(after({ f: "own" }), 1);
  assert.equal(upper.inos().length, 1, "until the disk has its row");
  lab.world.overlay.sync(null, { dataOnly: false });
  assert.equal(upper.inos().length, 0);
});

Deno.test("what is not held here is not released", () => {
  using lab = new Lab({ f: "one", g: "g" });
  overwrite(lab.driver, "f", "two");
  const to = { f: "two", g: "g" };
  put(lab.objects, to);
  const held = lab.objects.heldSize.bind(lab.objects);
  lab.objects.heldSize = (oid) => oid === blobOid("two") ? undefined : held(oid);
  lab.rebase(to);
  assert.equal(lab.world.overlay.upper.inos().length, 1);
});

Deno.test("a tree that is not here is waited for; one that cannot be had ends it", () => {
  using lab = new Lab({ dir: { f: "one" } });
  overwrite(lab.driver, "dir/f", "two");
  const before = lab.snapshot();
  const to = put(lab.objects, { dir: { f: "two" } });
  const inner = put(lab.objects, { f: "two" });
  const tree = lab.objects.trees.get(inner);
  lab.objects.trees.delete(inner);
  const rebase = lab.world.filesystem.rebase(to);
  let state = rebase.turn(0);
  while (state === "more") state = rebase.turn(0);
  assert.equal(state, "waiting");
  assert.deepEqual(lab.snapshot(), before);
  lab.objects.failing.add(`tree:${inner}`);
  assert.throws(() => rebase.turn(0), FsError);
  assert.deepEqual(lab.snapshot(), before);
  lab.objects.failing.clear();
  if (tree !== undefined) lab.objects.trees.set(inner, tree);
  lab.rebase({ dir: { f: "two" } });
  assert.deepEqual(lab.snapshot(), before);
});

Deno.test("the root's row names the base that is beneath", () => {
  using lab = new Lab({ f: "one" });
  const to = put(lab.objects, { f: "two" });
  lab.rebase({ f: "two" });
  assert.equal(lab.world.overlay.store.inode(ROOT_INO)?.oid, to);
});
