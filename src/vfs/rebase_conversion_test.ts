/** Rebases between bases whose files a checkout converts; rebase_test.ts has the properties. */

import assert from "node:assert/strict";
import { blobOid, Lab, overwrite, put, Shout, SHOUTED } from "../../tests/fakes/commit_lab.ts";
import { baseIdOf } from "../git/base_id.ts";

Deno.test("a base that differs only in conversions pins those files, and nothing else", async () => {
  const files = { a: "one", dir: { x: "one", y: "two" }, other: { x: "x" } };
  using lab = new Lab(files);
  const before = lab.snapshot();
  const rebase = lab.world.filesystem.rebase(
    put(lab.objects, { ...files, dir: { x: new Shout("one"), y: "two" } }),
  );
  while (rebase.turn(0) !== "done") { /* a step */ }
  assert.deepEqual(lab.snapshot(), before);
  // `dir` and `x`: what is beneath `dir` is another context.
  assert.deepEqual(rebase.counts, { pinned: 2, released: 0 });
  assert.deepEqual(await lab.counts(), [0, 0, 0], "the blob is the same");
  lab.reopen({ kill: true });
  assert.deepEqual(lab.snapshot(), before);
});

Deno.test("a directory that is moved shows its files as before, whatever is beneath", () => {
  using lab = new Lab({ dir: { in: { x: new Shout("one") }, y: new Shout("two") } });
  const { driver } = lab;
  driver.rename("dir", "moved", 0);
  const shown = () =>
    ["moved/in/x", "moved/y"].map((at) => driver.with(at, (nodeid) => driver.read(nodeid)));
  assert.deepEqual(shown(), ["ONE!", "TWO!"]);
  lab.rebase({ dir: { in: { x: "one" }, y: "two" } });
  assert.deepEqual(shown(), ["ONE!", "TWO!"]);
  lab.reopen({ kill: true });
  const again = lab.driver;
  assert.equal(again.with("moved/in/x", (nodeid) => again.read(nodeid)), "ONE!");
});

Deno.test("what a checkout would write is waited for; what it cannot write is not released", () => {
  using lab = new Lab({ f: "one", g: "one" });
  overwrite(lab.driver, "f", "TWO!");
  overwrite(lab.driver, "g", "GOOD!");
  const to = put(lab.objects, { f: new Shout("two"), g: new Shout("good") });
  const id = (text: string) => baseIdOf(blobOid(text), SHOUTED);
  lab.objects.sizes.delete(id("two"));
  lab.objects.sizes.delete(id("good"));
  lab.objects.failing.add(`size:${id("good")}`);
  const rebase = lab.world.filesystem.rebase(to);
  let state = rebase.turn(0);
  while (state === "more") state = rebase.turn(0);
  assert.equal(state, "waiting");
  assert.deepEqual(lab.objects.asked.at(-1), { key: `size:${id("two")}`, trees: [to] });
  lab.objects.sizes.set(id("two"), 4);
  while (rebase.turn(0) !== "done") { /* a step */ }
  assert.equal(rebase.counts.released, 1);
  lab.world.overlay.sync(null, { dataOnly: false });
  assert.equal(lab.world.overlay.upper.inos().length, 1, "the one that cannot be converted");
  assert.equal(lab.driver.with("f", (nodeid) => lab.driver.read(nodeid)), "TWO!");
});

Deno.test("a converted file of the same size and other bytes is not released", () => {
  using lab = new Lab({ f: "one" });
  overwrite(lab.driver, "f", "TWO?");
  lab.rebase({ f: new Shout("two") });
  lab.world.overlay.sync(null, { dataOnly: false });
  assert.equal(lab.world.overlay.upper.inos().length, 1);
  // Neither is one that is the blob as it lies in the repository.
  overwrite(lab.driver, "f", "four");
  lab.rebase({ f: new Shout("four") });
  assert.equal(lab.driver.with("f", (nodeid) => lab.driver.read(nodeid)), "four");
});

Deno.test("what a driver makes is not released: the bytes are nowhere else", () => {
  using lab = new Lab({ f: "one" });
  overwrite(lab.driver, "f", "TWO!");
  lab.objects.driven.add(baseIdOf(blobOid("two"), SHOUTED));
  lab.rebase({ f: new Shout("two") });
  lab.world.overlay.sync(null, { dataOnly: false });
  assert.equal(lab.world.overlay.upper.inos().length, 1);
});
