import assert from "node:assert/strict";
import { ERRNO, FsError } from "../errno.ts";
import { FakeObjects, fakeOid } from "../../tests/fakes/fake_objects.ts";
import { OverlayWorld } from "../../tests/fakes/overlay_world.ts";
import type { MountEvent, Rebased } from "./messages.ts";
import { Rebases } from "./rebases.ts";

const [A, B, C, INNER] = [fakeOid(1), fakeOid(2), fakeOid(3), fakeOid(4)] as const;

function ground() {
  const objects = new FakeObjects();
  const entry = (number: number) => ({ mode: "100644", name: "f", oid: fakeOid(number) });
  objects.putTree(A, [entry(5)]).putTree(B, [entry(6)]).putTree(INNER, [entry(7)])
    .putTree(C, [entry(5), { mode: "40000", name: "g", oid: INNER }]);
  const world = new OverlayWorld({ objects, rootTreeOid: A });
  const events: Rebased[] = [];
  let syncs = 0;
  const overlay = { sync: () => void syncs++ };
  const tell = (event: MountEvent) => {
    assert.ok(event.kind === "rebased");
    events.push(event);
  };
  const rebases = new Rebases(world.filesystem, overlay, tell);
  return {
    objects,
    rebases,
    events,
    overlay,
    syncs: () => syncs,
    [Symbol.dispose]: () => world[Symbol.dispose](),
  };
}

Deno.test("a rebase is told when the disk has it", () => {
  using g = ground();
  assert.equal(g.rebases.turn(), false, "nothing to do");
  g.rebases.start(B);
  while (g.rebases.turn());
  assert.equal(g.syncs(), 1);
  const [{ treeId, error, pinned, released }] = g.events as [Rebased];
  assert.deepEqual({ treeId, error, pinned, released }, {
    treeId: B,
    error: null,
    pinned: 1,
    released: 0,
  });
  assert.equal(g.rebases.turn(), false);
  assert.equal(g.events.length, 1);
});

Deno.test("one that waits for a tree has no turns; another one takes its place", () => {
  using g = ground();
  const tree = g.objects.trees.get(B);
  g.objects.trees.delete(B);
  g.rebases.start(B);
  assert.equal(g.rebases.turn(), false);
  assert.equal(g.rebases.turn(), false);
  assert.equal(g.events.length, 0);
  g.rebases.start(C);
  assert.match(g.events[0]?.error ?? "", /another/);
  while (g.rebases.turn());
  assert.deepEqual(g.events.map(({ treeId }) => treeId), [B, C]);
  assert.equal(g.events[1]?.error, null);
  if (tree !== undefined) g.objects.trees.set(B, tree);
  g.rebases.start(B);
  while (g.rebases.turn());
  assert.equal(g.events[2]?.error, null);
});

Deno.test("a failure is told: of a tree, and of the disk", () => {
  using g = ground();
  g.objects.trees.delete(B);
  g.objects.failing.add(`tree:${B}`);
  g.rebases.start(B);
  assert.equal(g.rebases.turn(), false);
  assert.ok(typeof g.events[0]?.error === "string");
  g.overlay.sync = () => {
    throw new FsError(ERRNO.EIO);
  };
  g.rebases.start(C);
  while (g.rebases.turn());
  assert.ok(typeof g.events[1]?.error === "string");
});
