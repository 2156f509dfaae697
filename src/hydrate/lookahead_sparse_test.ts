/** Walks that leave much out, as git's over what a checkout replaces, in a large tree. */

import assert from "node:assert/strict";
import { fakeOid, type RawEntry, rawTree } from "../../tests/fakes/fake_objects.ts";
import { tempDir } from "../../tests/support/run.ts";
import type { Oid } from "../git/oid.ts";
import type { HostPath } from "../path.ts";
import { BaseStore } from "../snapshot/store.ts";
import { Lookahead } from "./lookahead.ts";

/** 30 x 30 x 30 directories of four files each, and as many files in those above them. */
const WIDTH = 30;
const FILES = 4;
const LEAVES = WIDTH ** 3;
const DIRECTORIES = 1 + WIDTH + WIDTH ** 2 + LEAVES;
const FILES_IN_ALL = DIRECTORIES * FILES;

/** In preorder, as the index has them but for files behind subdirectories. */
interface Place {
  readonly tree: Oid;
  readonly blobs: readonly Oid[];
}

interface World {
  readonly base: BaseStore;
  readonly root: Oid;
  /** Directories in the order in which git's index has the last file of each. */
  readonly places: readonly Place[];
}

let next = 1;

/** Files named so that they are behind the subdirectories. */
function makeTree(level: number, trees: [Oid, Uint8Array][], places: Place[]): Oid {
  const entries: RawEntry[] = [];
  for (let i = 0; i < (level === 0 ? 0 : WIDTH); i++) {
    const oid = makeTree(level - 1, trees, places);
    entries.push({ mode: "40000", name: `d${String(i).padStart(2, "0")}`, oid });
  }
  const blobs = Array.from({ length: FILES }, () => fakeOid(next++));
  for (const [i, oid] of blobs.entries()) entries.push({ mode: "100644", name: `f${i}`, oid });
  const tree = fakeOid(next++);
  trees.push([tree, rawTree(entries)]);
  places.push({ tree, blobs });
  return tree;
}

let made: Promise<World> | null = null;
const dir = tempDir();

/** Made once: it is large. */
function world(): Promise<World> {
  return made ??= (async () => {
    const base = new BaseStore((await dir).at("base.db") as HostPath);
    const trees: [Oid, Uint8Array][] = [];
    const places: Place[] = [];
    const root = makeTree(3, trees, places);
    base.putTrees(trees);
    base.markIndexed(root);
    return { base, root, places };
  })();
}

Deno.test.afterAll(async () => {
  (await made)?.base.close();
  await (await dir).remove();
});

/** Numbers from 0 to 1, the same each time. */
function* random(seed: number): Generator<number, never> {
  let state = seed;
  for (;;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}

/** So many different numbers below `below`. */
function pick(count: number, below: number, seed: number): number[] {
  const numbers = random(seed);
  const picked = new Set<number>();
  while (picked.size < count) picked.add(Math.floor(numbers.next().value * below));
  return [...picked];
}

const inOrder = (numbers: number[]) => numbers.toSorted((a, b) => a - b);

interface Outcome {
  readonly misses: number;
  readonly brought: number;
  readonly most: number;
}

/** One file after the other: a miss waits for what it brings, and each file takes `workMs`. */
function look(
  { base, root }: World,
  order: readonly Place[],
  { workMs, requestMs = 40, arrives = true }: {
    readonly workMs: number;
    readonly requestMs?: number;
    readonly arrives?: boolean;
  },
): Outcome {
  let now = 0;
  const lookahead = new Lookahead(base, "sha1", root, () => now);
  const here = new Set<Oid>();
  let misses = 0;
  let most = 0;
  for (const { tree, blobs } of order) {
    now += workMs;
    if (here.has(blobs[0] as Oid)) continue;
    misses++;
    const { oids } = lookahead.miss(tree);
    most = Math.max(most, oids.length);
    for (const oid of oids) here.add(oid);
    now += requestMs;
    if (arrives) lookahead.noteArrival();
  }
  return { misses, brought: here.size, most };
}

Deno.test("500 of 100,000 files, in the order of the index: few misses", async () => {
  const tree = await world();
  for (const workMs of [1, 60]) {
    for (const seed of workMs === 1 ? [2, 5] : [3]) {
      const order = inOrder(pick(500, tree.places.length, seed)).map((i) => tree.places[i]!);
      const { misses } = look(tree, order, { workMs });
      // Git itself has two more, for the blobs that it writes.
      assert.ok(misses <= 8, `${misses} misses, seed ${seed}, ${workMs} ms`);
    }
  }
});

Deno.test("files behind subdirectories come with the window of a walk that is in them", async () => {
  const tree = await world();
  // Five directories of one parent, and then that parent's own files, and its parent's, and so on.
  const part = Array.from({ length: 5 }, (_, i) => tree.places[6 * i]!);
  const above = [WIDTH, WIDTH * (WIDTH + 1), DIRECTORIES - 1].map((i) => tree.places[i]!);
  const { misses } = look(tree, [...part, ...above], { workMs: 1 });
  const alone = look(tree, part, { workMs: 1 }).misses;
  assert.equal(misses, alone);
});

Deno.test("what differs in one part of a tree does not bring the others", async () => {
  const tree = await world();
  // The tenth part of it, and in that a file in one of fifty directories.
  const part = Math.round(DIRECTORIES / 10);
  for (const seed of [1, 2, 5]) {
    const order = inOrder(pick(60, part, seed)).map((i) => tree.places[9000 + i]!);
    const { misses, brought } = look(tree, order, { workMs: 1 });
    assert.ok(misses <= 8, `${misses} misses, seed ${seed}`);
    assert.ok(brought < 7 * part * FILES, `${brought} blobs, seed ${seed}`);
  }
});

Deno.test("a few files far from each other are a directory each, in whatever order", async () => {
  const tree = await world();
  for (let seed = 1; seed <= 3; seed++) {
    const picked = pick(10, tree.places.length, seed).map((i) => tree.places[i]!);
    const inItsOrder = inOrder(pick(10, tree.places.length, seed)).map((i) => tree.places[i]!);
    for (const order of [picked, inItsOrder]) {
      const { misses, most } = look(tree, order, { workMs: 1 });
      assert.ok(misses >= 9, `${misses} misses, seed ${seed}`);
      // Two that happen to be neighbours may bring two more.
      assert.ok(most <= 4 * FILES, `${most} blobs, seed ${seed}`);
    }
  }
});

Deno.test("forward and slow, or in no order: no walk", async () => {
  const tree = await world();
  const numbers = pick(20, DIRECTORIES / 30, 7);
  const forward = inOrder(numbers).map((i) => tree.places[i]!);
  // So far apart that none is near the one before.
  const spread = inOrder(numbers).map((i) => tree.places[30 * i]!);
  const slow = look(tree, spread, { workMs: 2_000 });
  assert.deepEqual([slow.misses, slow.most], [20, FILES]);
  const mixed = spread.map((_, i) => spread[(i * 7) % spread.length]!);
  assert.deepEqual(look(tree, mixed, { workMs: 1 }).most, FILES);
  // The same places close together, and quick: a walk.
  assert.ok(look(tree, forward, { workMs: 1 }).most > FILES);
});

Deno.test("in no order, and far away: a burst is seen, however long a request takes", async () => {
  const tree = await world();
  const order = pick(60, tree.places.length, 9).map((i) => tree.places[i]!);
  for (const [workMs, burst] of [[1, true], [400, false]] as const) {
    const { misses, most } = look(tree, order, { workMs, requestMs: 300 });
    assert.equal(most > FILES_IN_ALL / 2, burst, `${workMs} ms`);
    if (burst) assert.ok(misses <= 40, `${misses} misses`);
  }
});

Deno.test("more than a window is worth left out: each alone, and they are no burst", async () => {
  const tree = await world();
  const order = inOrder(pick(60, tree.places.length, 3)).map((i) => tree.places[i]!);
  const { misses, brought } = look(tree, order, { workMs: 1 });
  assert.ok(misses > 40, `${misses}`);
  assert.ok(brought < FILES_IN_ALL / 10, `${brought}`);
});

Deno.test("many at once, each going forward, are a burst as ever", async () => {
  const tree = await world();
  // Twenty threads, each with its part of the tree, by turns; none waits for another's blobs.
  const part = Math.floor(tree.places.length / 20);
  const order = Array.from({ length: 100 }, (_, i) => {
    return tree.places[(i % 20) * part + 40 * Math.floor(i / 20)]!;
  });
  const { misses, brought } = look(tree, order, { workMs: 1, arrives: false });
  assert.ok(misses <= 30, `${misses} misses`);
  assert.equal(brought, FILES_IN_ALL);
});
