import assert from "node:assert/strict";
import { fakeOid, rawTree } from "../../tests/fakes/fake_objects.ts";
import { type BaseId, baseIdOf } from "../git/base_id.ts";
import { digest } from "../git/conversion.ts";
import type { Name } from "../path.ts";
import { Directory } from "../vfs/directory.ts";
import { ConvertAhead } from "./convert_ahead.ts";

const CONVERTED = digest("conversion", "x");
const BELOW = digest("context", "x");

/** A root with directories d0, d1, ... of so many files each, all ready. */
function world(directories: number, files: number) {
  const trees = new Map<BaseId, Directory>();
  const missing = new Set<BaseId>();
  const done = new Set<BaseId>();
  const fileId = (d: number, f: number) => baseIdOf(fakeOid(1000 * d + f + 1), CONVERTED);
  const treeId = (d: number) => baseIdOf(fakeOid(1e9 + d), BELOW);
  const names = (count: number, letter: string) =>
    Array.from({ length: count }, (_, i) => `${letter}${String(i).padStart(4, "0")}` as Name);
  for (let d = 0; d < directories; d++) {
    const entries = names(files, "f").map((name, f) => ({
      mode: "100644",
      name,
      oid: fakeOid(1000 * d + f + 1),
    }));
    const context = new Map(entries.map(({ name }) => [name, CONVERTED]));
    trees.set(treeId(d), new Directory(rawTree(entries), "sha1", context));
  }
  const all = names(directories, "d");
  const raw = rawTree(all.map((name, d) => ({ mode: "40000", name, oid: fakeOid(1e9 + d) })));
  const root = baseIdOf(fakeOid(5e9), BELOW);
  trees.set(root, new Directory(raw, "sha1", new Map(all.map((name) => [name, BELOW]))));
  const ahead = new ConvertAhead({
    directoryAtHand: (id) => trees.get(id),
    stateOf: (id) => missing.has(id) ? "missing" : done.has(id) ? "other" : "ready",
  });
  return {
    fileId,
    missing,
    done,
    /** Somebody looks at a file: which directories' files were taken, and they are done then. */
    look: (d: number, f = 0): number => {
      if (done.has(fileId(d, f))) return 0;
      const taken = ahead.with(fileId(d, f), [root, treeId(d)]);
      assert.equal(taken[0], fileId(d, f));
      assert.equal(new Set(taken).size, taken.length);
      for (const id of taken) done.add(id);
      return taken.length;
    },
  };
}

Deno.test("convert ahead: a directory, and no more for reads that are scattered", () => {
  const w = world(200, 5);
  for (const d of [100, 3, 180, 60, 140, 20]) assert.equal(w.look(d), 5, `${d}`);
});

Deno.test("convert ahead: a walk takes few runs, each of many directories", () => {
  const w = world(800, 6);
  const runs: number[] = [];
  for (let d = 0; d < 800; d++) {
    for (let f = 0; f < 6; f++) {
      const taken = w.look(d, f);
      if (taken > 0) runs.push(taken);
    }
  }
  assert.equal(runs.reduce((sum, each) => sum + each, 0), 4800);
  assert.deepEqual(runs.slice(0, 4), [6, 24, 96, 384]);
  assert.ok(runs.length <= 9, `${runs}`);
  assert.ok(Math.max(...runs) <= 1000);
});

Deno.test("convert ahead: it ends where a blob is missing, and the walk goes on from there", () => {
  const w = world(100, 4);
  w.missing.add(w.fileId(3, 2));
  assert.deepEqual([w.look(0), w.look(1)], [4, 4 + 4 + 3]);
  w.missing.clear();
  // It has come meanwhile.
  assert.equal(w.look(3, 2), 1 + 15 * 4);
  assert.equal(w.look(70), 4, "somewhere else");
});

Deno.test("convert ahead: what nobody knows the place of goes alone", () => {
  const ahead = new ConvertAhead({ directoryAtHand: () => undefined, stateOf: () => "ready" });
  const id = baseIdOf(fakeOid(1), CONVERTED);
  assert.deepEqual(ahead.with(id, []), [id]);
  assert.deepEqual(ahead.with(id, [baseIdOf(fakeOid(2), BELOW)]), [id]);
});
