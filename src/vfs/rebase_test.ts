import assert from "node:assert/strict";
import fc from "fast-check";
import { FsError } from "../errno.ts";
import { ROOT_INO } from "./ino.ts";
import {
  blobOid,
  Lab,
  type Op,
  op,
  overwrite,
  path,
  put,
  run,
  type Spec,
  spec,
  writeTree,
} from "../../tests/fakes/commit_lab.ts";
import { checkInvariants } from "../../tests/support/overlay_invariants.ts";

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
    const part = lab.readSome(nodeid, cookie, 7);
    seen.push(...part.names);
    ({ cookie } = part);
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
