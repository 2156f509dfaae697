import assert from "node:assert/strict";
import fc from "fast-check";
import { fakeOid, rawTree } from "../../tests/fakes/fake_objects.ts";
import type { Name } from "../path.ts";
import { Directory } from "./directory.ts";
import { isDirectoryEntry, mergedEntry, OverlayEntries } from "./overlay_entries.ts";

const FILE = 0o100644;
const DIRECTORY = 0o040755;
const name = (text: string) => text as Name;

const BASE = new Directory(
  rawTree([
    { mode: "100644", name: "a", oid: fakeOid(1) },
    { mode: "40000", name: "b", oid: fakeOid(2) },
    { mode: "100644", name: "c", oid: fakeOid(3) },
  ]),
  "sha1",
);
const NAMES = ["a", "b", "c", "x", "y", "z"].map(name);

const added = (entries: OverlayEntries, from = 0) =>
  [...entries.addedFrom(from)].map(({ name, entry }) => [name, entry.ino, entry.sequence]);

Deno.test("a dentry overrides, a whiteout hides, everything else is the base's", () => {
  const entries = new OverlayEntries(BASE, [
    { name: name("a"), ino: null, mode: 0 },
    { name: name("b"), ino: 7, mode: FILE },
    { name: name("x"), ino: 8, mode: DIRECTORY },
  ]);
  assert.equal(mergedEntry(name("a"), BASE, entries), undefined);
  assert.deepEqual(mergedEntry(name("b"), BASE, entries), { from: "overlay", ino: 7, mode: FILE });
  assert.equal(mergedEntry(name("c"), BASE, entries)?.from, "base");
  assert.equal(mergedEntry(name("x"), BASE, entries)?.from, "overlay");
  assert.equal(mergedEntry(name("y"), BASE, entries), undefined);
  assert.deepEqual([entries.visibleCount, entries.subdirectories], [3, 1]);
});

Deno.test("sequences are never given twice, and stay when others go", () => {
  const entries = new OverlayEntries(null);
  for (let i = 0; i < 200; i++) entries.put(null, name(`n${i}`), i, FILE);
  for (let i = 0; i < 200; i += 2) entries.hide(null, name(`n${i}`));
  entries.put(null, name("n0"), 1000, FILE);
  const left = added(entries);
  assert.equal(left.length, 101);
  assert.deepEqual(left[0], ["n1", 1, 1]);
  assert.deepEqual(left.at(-1), ["n0", 1000, 200]);
  assert.deepEqual(added(entries, 199), [["n199", 199, 199], ["n0", 1000, 200]]);
  assert.deepEqual(added(entries, 201), []);
});

Deno.test("a name of the base that was removed and made again keeps its rank", () => {
  const entries = new OverlayEntries(BASE);
  entries.hide(BASE, name("a"));
  entries.put(BASE, name("a"), 9, FILE);
  assert.deepEqual(added(entries), []);
  assert.equal(entries.get(name("a"))?.sequence, -1);
});

Deno.test("property: as a map of names, with its counts", () => {
  const step = fc.record({
    name: fc.constantFrom(...NAMES),
    hide: fc.boolean(),
    directory: fc.boolean(),
    ino: fc.nat(),
  });
  fc.assert(fc.property(fc.boolean(), fc.array(step), (withBase, steps) => {
    const base = withBase ? BASE : null;
    const entries = new OverlayEntries(base);
    const model = new Map<Name, boolean>();
    if (withBase) model.set(name("a"), false).set(name("b"), true).set(name("c"), false);
    for (const { name, hide, directory, ino } of steps) {
      if (hide) {
        entries.hide(base, name);
        model.delete(name);
      } else {
        entries.put(base, name, ino, directory ? DIRECTORY : FILE);
        model.set(name, directory);
      }
      for (const each of NAMES) {
        const shown = mergedEntry(each, base, entries);
        assert.equal(shown !== undefined && isDirectoryEntry(shown), model.get(each) ?? false);
        assert.equal(shown !== undefined, model.has(each));
      }
      assert.equal(entries.visibleCount, model.size);
      assert.equal(entries.subdirectories, [...model.values()].filter((each) => each).length);
      const inBase = (each: Name) => base?.get(each) !== undefined;
      const expected = [...model.keys()].filter((each) => !inBase(each)).sort();
      assert.deepEqual(added(entries).map(([each]) => each).sort(), expected);
    }
  }));
});
