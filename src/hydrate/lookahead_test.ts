import assert from "node:assert/strict";
import { fakeOid, type RawEntry, rawTree } from "../../tests/fakes/fake_objects.ts";
import { tempDir } from "../../tests/support/run.ts";
import type { Oid } from "../git/oid.ts";
import type { HostPath } from "../path.ts";
import { BaseStore } from "../snapshot/store.ts";
import { Lookahead } from "./lookahead.ts";

/** 20 x 20 directories of 3 files each below a root of 2 files: 1,202 files in 421 directories. */
const GROUPS = 20;
const PER_GROUP = 20;
const FILES = 3;
const ROOT = fakeOid(1);

const groupOid = (group: number) => fakeOid(0x1000 + group);
const leafOid = (group: number, leaf: number) => fakeOid(0x2000 + PER_GROUP * group + leaf);
const blobOid = (group: number, leaf: number, file: number) =>
  fakeOid(0x10000 + FILES * (PER_GROUP * group + leaf) + file);

function treesOfProject(): [Oid, Uint8Array][] {
  const two = (number: number) => String(number).padStart(2, "0");
  const trees: [Oid, Uint8Array][] = [];
  const root: RawEntry[] = [
    { mode: "100644", name: "README", oid: fakeOid(2) },
    { mode: "160000", name: "module", oid: fakeOid(4) },
    { mode: "120000", name: "link", oid: fakeOid(3) },
  ];
  for (let group = 0; group < GROUPS; group++) {
    root.push({ mode: "40000", name: `z${two(group)}`, oid: groupOid(group) });
    const leaves: RawEntry[] = [];
    for (let leaf = 0; leaf < PER_GROUP; leaf++) {
      leaves.push({ mode: "40000", name: `d${two(leaf)}`, oid: leafOid(group, leaf) });
      const files = Array.from({ length: FILES }, (_, file) => ({
        mode: "100644",
        name: `f${file}`,
        oid: blobOid(group, leaf, file),
      }));
      trees.push([leafOid(group, leaf), rawTree(files)]);
    }
    trees.push([groupOid(group), rawTree(leaves)]);
  }
  trees.push([ROOT, rawTree(root)]);
  return trees;
}

async function project(options: { indexed?: boolean; stepMs?: number } = {}) {
  const dir = await tempDir();
  const base = new BaseStore(dir.at("base.db") as HostPath);
  base.putTrees(treesOfProject());
  if (options.indexed !== false) base.markIndexed(ROOT);
  // A person's pace: so many misses are no burst.
  let now = 0;
  const stepMs = options.stepMs ?? 200;
  return {
    base,
    lookahead: new Lookahead(base, "sha1", ROOT, () => now += stepMs),
    async [Symbol.asyncDispose]() {
      base.close();
      await dir.remove();
    },
  };
}

/** Leaf directories in the order of the tree. */
const LEAVES = Array.from(
  { length: GROUPS * PER_GROUP },
  (_, i) => [Math.floor(i / PER_GROUP), i % PER_GROUP] as const,
);

const blobsOf = ([group, leaf]: readonly [number, number]) =>
  Array.from({ length: FILES }, (_, file) => blobOid(group, leaf, file));

/** Reads one file of each directory unless it was brought along; misses and what they brought. */
function visit(lookahead: Lookahead, order: readonly (readonly [number, number])[]) {
  const here = new Set<Oid>();
  const misses: { brought: number; reason: string }[] = [];
  for (const [group, leaf] of order) {
    if (here.has(blobOid(group, leaf, 0))) continue;
    const { oids, reason } = lookahead.miss(leafOid(group, leaf));
    for (const oid of oids) here.add(oid);
    misses.push({ brought: oids.length, reason });
  }
  return { misses, here };
}

Deno.test("the first miss brings its directory and nothing else", async () => {
  await using p = await project();
  assert.deepEqual(p.lookahead.miss(leafOid(3, 4)), {
    oids: blobsOf([3, 4]),
    reason: "directory",
  });
  assert.equal(p.lookahead.blobCount(), null, "one miss does not read the tree's order");
});

Deno.test("a walk grows its windows and then asks for the rest: few misses for the whole tree", async () => {
  await using p = await project();
  const { misses, here } = visit(p.lookahead, LEAVES);
  assert.ok(misses.length <= 8, `${misses.length} misses`);
  assert.equal(misses[0]?.reason, "directory");
  assert.equal(misses[1]?.brought, 4 * FILES);
  assert.equal(misses.at(-1)?.reason, "walk");
  assert.ok(LEAVES.every(([group, leaf]) => here.has(blobOid(group, leaf, 2))));
});

Deno.test("a walk that reads contents becomes a scan earlier", async () => {
  await using p = await project();
  p.lookahead.noteContent();
  const { misses } = visit(p.lookahead, LEAVES);
  assert.ok(misses.length <= 3, `${misses.length} misses`);
  assert.equal(misses.at(-1)?.reason, "scan");
});

Deno.test("nothing is brought twice on a walk", async () => {
  await using p = await project();
  const counts = new Map<Oid, number>();
  for (let i = 0; i < LEAVES.length;) {
    const { oids } = p.lookahead.miss(leafOid(...LEAVES[i] as [number, number]));
    for (const oid of oids) counts.set(oid, (counts.get(oid) ?? 0) + 1);
    while (i < LEAVES.length && counts.has(blobsOf(LEAVES[i]!)[0] as Oid)) i++;
  }
  assert.ok([...counts.values()].every((count) => count === 1));
});

Deno.test("reads scattered over the tree stay one directory each", async () => {
  await using p = await project();
  p.lookahead.noteContent();
  // Far from each other: 97 steps of 400 directories, and never near the one before.
  const scattered = Array.from({ length: 50 }, (_, i) => LEAVES[(i * 97) % LEAVES.length]!);
  const { misses } = visit(p.lookahead, scattered);
  assert.equal(misses.length, 50);
  for (const { brought, reason } of misses) {
    assert.equal(reason, "directory");
    assert.equal(brought, FILES);
  }
});

Deno.test("a burst of misses brings the rest, wherever they fall", async () => {
  await using p = await project({ stepMs: 20 });
  const scattered = Array.from({ length: 50 }, (_, i) => LEAVES[(i * 97) % LEAVES.length]!);
  const { misses, here } = visit(p.lookahead, scattered);
  assert.equal(misses.length, 25);
  assert.equal(misses.at(-1)?.reason, "walk");
  assert.ok(LEAVES.every(([group, leaf]) => here.has(blobOid(group, leaf, 2))));
});

Deno.test("who has read all that came and misses nearby gets the rest", async () => {
  await using p = await project();
  p.lookahead.miss(ROOT);
  // The root brings two blobs only: too few to tell.
  p.lookahead.noteContent(2);
  assert.equal(p.lookahead.miss(leafOid(0, 0)).reason, "walk");
  p.lookahead.noteContent(FILES * 4);
  const { oids, reason } = p.lookahead.miss(leafOid(0, 4));
  assert.equal(reason, "scan");
  assert.equal(oids.length, FILES * (GROUPS * PER_GROUP - 4));
});

Deno.test("who has read some of what came gets no more than a walk", async () => {
  await using p = await project();
  p.lookahead.miss(ROOT);
  p.lookahead.miss(leafOid(0, 0));
  p.lookahead.noteContent(FILES);
  p.lookahead.miss(leafOid(10, 0));
  p.lookahead.noteContent(1);
  assert.equal(p.lookahead.miss(leafOid(10, 1)).reason, "walk");
});

Deno.test("who reads many files as soon as they come, and misses nearby, gets the rest", async () => {
  for (
    const { read, stepMs, group, reason } of [
      { read: 8, stepMs: 50, group: 10, reason: "scan" },
      // Too few, too slow, elsewhere.
      { read: 7, stepMs: 50, group: 10, reason: "walk" },
      { read: 8, stepMs: 300, group: 10, reason: "walk" },
      { read: 8, stepMs: 50, group: 19, reason: "directory" },
    ] as const
  ) {
    await using p = await project({ stepMs });
    p.lookahead.miss(leafOid(0, 0));
    p.lookahead.miss(leafOid(10, 0));
    p.lookahead.miss(leafOid(5, 0));
    // Four directories: who read eight files of them has not read all.
    assert.equal(p.lookahead.miss(leafOid(5, 1)).reason, "walk");
    assert.equal(p.lookahead.miss(leafOid(10, 0)).reason, "directory");
    p.lookahead.noteArrival();
    p.lookahead.noteContent(read);
    assert.equal(p.lookahead.miss(leafOid(group, 1)).reason, reason, `${read} ${stepMs} ${group}`);
  }
});

Deno.test("a walk after scattered reads is seen again, and a jump ends a walk", async () => {
  await using p = await project();
  visit(p.lookahead, [LEAVES[300]!, LEAVES[20]!, LEAVES[200]!]);
  const reasons = [LEAVES[201]!, LEAVES[206]!].map((leaf) =>
    p.lookahead.miss(leafOid(...leaf)).reason
  );
  assert.deepEqual(reasons, ["walk", "walk"]);
  assert.equal(p.lookahead.miss(leafOid(...LEAVES[390]!)).reason, "directory");
});

Deno.test("walking in reverse stays complete and is no slower than a directory at a time", async () => {
  await using p = await project();
  const { misses, here } = visit(p.lookahead, LEAVES.toReversed());
  assert.ok(LEAVES.every(([group, leaf]) => here.has(blobOid(group, leaf, 0))));
  assert.ok(misses.length < LEAVES.length / 4, `${misses.length} misses`);
});

Deno.test("a walk that sorts differently (leaves shuffled within each group) is still a walk", async () => {
  await using p = await project();
  const order = LEAVES.map(([group, leaf]) => [group, (leaf * 7) % PER_GROUP] as const);
  const { misses, here } = visit(p.lookahead, order);
  assert.ok(LEAVES.every(([group, leaf]) => here.has(blobOid(group, leaf, 0))));
  assert.ok(misses.length < 40, `${misses.length} misses`);
});

Deno.test("before the tree is indexed every miss brings its directory", async () => {
  await using p = await project({ indexed: false });
  const { misses } = visit(p.lookahead, LEAVES.slice(0, 10));
  assert.deepEqual(misses.map(({ reason }) => reason), new Array(10).fill("directory"));
  p.base.markIndexed(ROOT);
  assert.equal(p.lookahead.miss(leafOid(0, 11)).reason, "walk");
});

Deno.test("a directory that is not in the base brings nothing", async () => {
  await using p = await project();
  assert.deepEqual(p.lookahead.miss(fakeOid(0xdead)), { oids: [], reason: "directory" });
  assert.deepEqual(p.lookahead.miss(fakeOid(0xdead)), { oids: [], reason: "directory" });
});

Deno.test("files of the whole tree, links included, gitlinks and directories not", async () => {
  await using p = await project();
  p.lookahead.miss(ROOT);
  p.lookahead.miss(leafOid(0, 0));
  const files = GROUPS * PER_GROUP * FILES;
  const count = p.lookahead.blobCount() ?? 0;
  // The gitlink may be counted: the number only decides how much is asked for at once.
  assert.ok(count === files + 2 || count === files + 3, `${count}`);
  assert.deepEqual(p.lookahead.directory(ROOT), [fakeOid(2), fakeOid(3)]);
});

Deno.test("a tree that holds its subtrees 10^30 times is walked once", async () => {
  await using dir = await tempDir();
  const base = new BaseStore(dir.at("base.db") as HostPath);
  const levels = 30;
  const trees: [Oid, Uint8Array][] = [];
  for (let level = 0; level < levels; level++) {
    const below = level === levels - 1
      ? [{ mode: "100644", name: "f", oid: fakeOid(99) }]
      : Array.from({ length: 10 }, (_, i) => ({
        mode: "40000",
        name: `d${i}`,
        oid: fakeOid(1000 + level + 1),
      }));
    trees.push([fakeOid(1000 + level), rawTree(below)]);
  }
  base.putTrees(trees);
  base.markIndexed(fakeOid(1000));
  const lookahead = new Lookahead(base, "sha1", fakeOid(1000));
  lookahead.miss(fakeOid(1000));
  lookahead.miss(fakeOid(1029));
  assert.equal(lookahead.blobCount(), 1);
  base.close();
});

Deno.test("the first ignore or attribute file brings those of the whole tree", async () => {
  await using dir = await tempDir();
  const base = new BaseStore(dir.at("base.db") as HostPath);
  const [root, a, b] = [fakeOid(1), fakeOid(2), fakeOid(3)];
  const file = (name: string, oid: number) => ({ mode: "100644", name, oid: fakeOid(oid) });
  base.putTrees([
    [
      root,
      rawTree([
        file(".gitignore", 10),
        file("README", 11),
        { mode: "40000", name: "a", oid: a },
      ]),
    ],
    [
      a,
      rawTree([
        file(".gitattributes", 12),
        { mode: "40000", name: "b", oid: b },
        file("x", 13),
      ]),
    ],
    [b, rawTree([file(".gitignore", 14), { mode: "40000", name: ".gitattributes", oid: a }])],
  ]);
  const fake = (numbers: number[]) => numbers.map((number) => fakeOid(number));
  const oids = (tree: Oid, miss: number) =>
    new Lookahead(base, "sha1", root).miss(tree, fakeOid(miss)).oids;
  assert.deepEqual(oids(root, 10), fake([10, 11]), "before the tree is in the base");
  base.markIndexed(root);
  assert.deepEqual(oids(root, 10), fake([10, 11, 10, 12, 14]));
  assert.deepEqual(oids(a, 12), fake([12, 13, 10, 12, 14]));
  assert.deepEqual(oids(root, 11), fake([10, 11]));
  base.close();
});
