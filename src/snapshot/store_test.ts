import assert from "node:assert/strict";
import { fakeOid } from "../../tests/fakes/fake_objects.ts";
import { tempDir } from "../../tests/support/run.ts";
import type { Oid } from "../git/oid.ts";
import type { HostPath } from "../path.ts";
import { BaseStore } from "./store.ts";

const bytes = (...values: number[]) => Uint8Array.from(values);

Deno.test("trees: put, read back byte by byte, unknown ones are null", async () => {
  await using dir = await tempDir();
  const base = new BaseStore(dir.at("base.db") as HostPath);
  base.putTrees([[fakeOid(1), bytes(0, 1, 255)], [fakeOid(2), bytes()]]);
  assert.deepEqual(base.tree(fakeOid(1)), bytes(0, 1, 255));
  assert.deepEqual(base.tree(fakeOid(2)), bytes());
  assert.equal(base.tree(fakeOid(3)), null);
  base.close();
});

Deno.test("what is there stays as it is: the same key is the same content", async () => {
  await using dir = await tempDir();
  const base = new BaseStore(dir.at("base.db") as HostPath);
  base.putTrees([[fakeOid(1), bytes(1)]]);
  base.putTrees([[fakeOid(1), bytes(2)], [fakeOid(2), bytes(3)]]);
  base.putSizes([[fakeOid(1), 10]]);
  base.putSizes([[fakeOid(1), 11], [fakeOid(2), 12]]);
  base.markIndexed(fakeOid(1));
  base.markIndexed(fakeOid(1));
  assert.deepEqual(base.tree(fakeOid(1)), bytes(1));
  assert.deepEqual(base.tree(fakeOid(2)), bytes(3));
  assert.equal(base.size(fakeOid(1)), 10);
  assert.equal(base.size(fakeOid(2)), 12);
  base.close();
});

Deno.test("sizes: one, and the known ones among many, 0 and beyond 4 GiB included", async () => {
  await using dir = await tempDir();
  const base = new BaseStore(dir.at("base.db") as HostPath);
  const known: [Oid, number][] = [[fakeOid(1), 0], [fakeOid(2), 2 ** 40], [fakeOid(3), 7]];
  base.putSizes(known);
  assert.equal(base.size(fakeOid(1)), 0);
  assert.equal(base.size(fakeOid(9)), undefined);
  const asked = [fakeOid(9), ...known.map(([oid]) => oid), fakeOid(1)];
  assert.deepEqual([...base.sizes(asked)].sort(), known);
  assert.equal(base.sizes([]).size, 0);
  base.close();
});

Deno.test("sizes of 10,000 in one question", async () => {
  await using dir = await tempDir();
  const base = new BaseStore(dir.at("base.db") as HostPath);
  const all = Array.from({ length: 10_000 }, (_, i) => [fakeOid(i), i] as const);
  base.putSizes(all.filter((_, i) => i % 2 === 0));
  const known = base.sizes(all.map(([oid]) => oid));
  assert.equal(known.size, 5000);
  for (const [oid, size] of known) assert.equal(size, Number(`0x${oid}`));
  base.close();
});

Deno.test("sha256 oids, and no mixing up of oids that share their digits", async () => {
  await using dir = await tempDir();
  const base = new BaseStore(dir.at("base.db") as HostPath);
  base.putTrees([[fakeOid(1), bytes(1)], [fakeOid(1, "sha256"), bytes(2)]]);
  assert.deepEqual(base.tree(fakeOid(1)), bytes(1));
  assert.deepEqual(base.tree(fakeOid(1, "sha256")), bytes(2));
  base.putSizes([[fakeOid(5, "sha256"), 5]]);
  assert.deepEqual([...base.sizes([fakeOid(5), fakeOid(5, "sha256")])], [
    [fakeOid(5, "sha256"), 5],
  ]);
  base.close();
});

Deno.test("another connection sees what was put, and everything survives a close", async () => {
  await using dir = await tempDir();
  const path = dir.at("base.db") as HostPath;
  const writer = new BaseStore(path);
  const reader = new BaseStore(path);
  assert.equal(reader.isIndexed(fakeOid(1)), false);
  writer.putTrees([[fakeOid(1), bytes(1)]]);
  writer.putSizes([[fakeOid(2), 3]]);
  writer.markIndexed(fakeOid(1));
  assert.deepEqual(reader.tree(fakeOid(1)), bytes(1));
  assert.equal(reader.isIndexed(fakeOid(1)), true);
  writer.close();
  reader.close();
  const again = new BaseStore(path);
  assert.equal(again.size(fakeOid(2)), 3);
  assert.equal(again.isIndexed(fakeOid(1)), true);
  assert.equal(again.isIndexed(fakeOid(2)), false);
  assert.equal((Deno.statSync(path).mode ?? 0) & 0o777, 0o600);
  again.close();
});
