import assert from "node:assert/strict";
import { fakeOid, rawTree } from "../../tests/fakes/fake_objects.ts";
import { tempDir } from "../../tests/support/run.ts";
import type { Oid } from "../git/oid.ts";
import type { HostPath } from "../path.ts";
import { BaseStore } from "../snapshot/store.ts";
import { Lookahead } from "./lookahead.ts";
import { Readahead } from "./readahead.ts";

const ROOT = fakeOid(1);
const KIB = 1024;
const treeOid = (dir: number) => fakeOid(0x1000 + dir);
const blobOid = (dir: number, file: number) => fakeOid(0x100000 + 0x1000 * dir + file);

interface ProjectOptions {
  readonly dirs?: number;
  readonly files?: number;
  readonly indexed?: boolean;
  /** Undefined: not known. 100 bytes unless told. */
  readonly sizeOf?: (dir: number, file: number) => number | undefined;
}

async function project(options: ProjectOptions = {}) {
  const { dirs = 100, files = 4, indexed = true, sizeOf = () => 100 } = options;
  const dir = await tempDir();
  const base = new BaseStore(dir.at("base.db") as HostPath);
  const sizes = new Map<Oid, number>();
  const order: Oid[] = [];
  const directories = Array.from({ length: dirs }, (_, at) => at);
  base.putTrees(directories.map((at) => {
    const entries = Array.from({ length: files }, (_, file) => {
      const size = sizeOf(at, file);
      if (size !== undefined) sizes.set(blobOid(at, file), size);
      order.push(blobOid(at, file));
      return { mode: "100644", name: `f${file}`, oid: blobOid(at, file) };
    });
    return [treeOid(at), rawTree(entries)] as const;
  }));
  const below = directories.map((at) => ({ mode: "40000", name: `d${at}`, oid: treeOid(at) }));
  base.putTrees([[ROOT, rawTree(below)]]);
  if (indexed) base.markIndexed(ROOT);
  const known = (oids: readonly Oid[]) =>
    new Map(oids.flatMap((oid) => {
      const size = sizes.get(oid);
      return size === undefined ? [] : [[oid, size] as const];
    }));
  const readahead = new Readahead(known, new Lookahead(base, "sha1", ROOT));
  return {
    base,
    /** All blobs in the order of the tree. */
    order,
    readahead,
    read: (at: number, file: number) => readahead.after(treeOid(at), blobOid(at, file)),
    async [Symbol.asyncDispose]() {
      base.close();
      await dir.remove();
    },
  };
}

type Project = Awaited<ReturnType<typeof project>>;

/** The three reads that bring nothing. */
function begin(p: Project, at = 0): void {
  for (const file of [0, 1, 2]) assert.deepEqual(p.read(at, file), []);
}

Deno.test("the fourth read in a row brings the next eight blobs", async () => {
  await using p = await project();
  begin(p);
  assert.deepEqual(p.read(0, 3), p.order.slice(4, 12));
});

Deno.test("each batch begins where the last ended and is twice as large, up to 256", async () => {
  await using p = await project({ dirs: 400 });
  begin(p);
  let at = 4;
  for (const count of [8, 16, 32, 64, 128, 256, 256, 256]) {
    const batch = at === 4 ? p.read(0, 3) : p.readahead.more();
    assert.deepEqual(batch, p.order.slice(at, at + count));
    at += count;
  }
});

Deno.test("at the end of the tree there is no more", async () => {
  await using p = await project({ dirs: 3 });
  begin(p);
  assert.deepEqual(p.read(0, 3), p.order.slice(4));
  assert.deepEqual(p.readahead.more(), []);
  assert.deepEqual(p.read(2, 3), []);
});

Deno.test("before anything was read there is nothing to go on from", async () => {
  await using p = await project();
  assert.deepEqual(p.readahead.more(), []);
});

Deno.test("reads up to 24 directories apart are a row, in either direction", async () => {
  await using p = await project();
  for (const at of [50, 26, 50]) assert.deepEqual(p.read(at, 0), []);
  assert.deepEqual(p.read(26, 0), p.order.slice(26 * 4 + 1, 26 * 4 + 9));
});

Deno.test("a read 25 directories away begins anew, with eight", async () => {
  await using p = await project();
  begin(p);
  assert.equal(p.read(0, 3).length, 8);
  assert.equal(p.readahead.more().length, 16);
  // What came last is in directory 6.
  assert.deepEqual(p.read(32, 0), []);
  assert.deepEqual(p.read(32, 1), []);
  assert.deepEqual(p.read(32, 2), []);
  assert.deepEqual(p.read(32, 3), p.order.slice(33 * 4, 33 * 4 + 8));
});

Deno.test("reads scattered over a tree bring nothing", async () => {
  await using p = await project();
  for (let i = 0; i < 40; i++) assert.deepEqual(p.read((i * 37) % 100, i % 4), []);
});

Deno.test("nothing twice in a row of reads, also when the reader goes back", async () => {
  await using p = await project({ files: 40 });
  begin(p, 10);
  const given = p.read(10, 3);
  for (const [at, file] of [[11, 0], [10, 0], [10, 3], [12, 1], [10, 2]] as const) {
    given.push(...p.read(at, file));
  }
  for (let i = 0; i < 3; i++) given.push(...p.readahead.more());
  assert.ok(given.length > 100);
  assert.equal(new Set(given).size, given.length);
});

Deno.test("after a jump the same blobs may come again", async () => {
  await using p = await project();
  begin(p);
  const first = p.read(0, 3);
  assert.deepEqual(p.read(99, 0), []);
  begin(p);
  assert.deepEqual(p.read(0, 3), first);
});

Deno.test("blobs above 128 KiB and of unknown size are left to the reader", async () => {
  const limit = 128 * KIB;
  await using p = await project({
    sizeOf: (_, file) => [limit, limit + 1, undefined, 0][file],
  });
  begin(p);
  assert.deepEqual(p.read(0, 3), [blobOid(1, 0), blobOid(1, 3), blobOid(2, 0), blobOid(2, 3)]);
});

Deno.test("a batch holds at most 4 MiB", async () => {
  await using p = await project({ dirs: 200, sizeOf: () => 100 * KIB });
  begin(p);
  const counts = [p.read(0, 3).length];
  for (let i = 0; i < 4; i++) counts.push(p.readahead.more().length);
  assert.deepEqual(counts, [8, 16, 32, 40, 40]);
});

Deno.test("blobs that were given already are passed over, but not without end", async () => {
  await using p = await project({ dirs: 3, files: 3000 });
  begin(p);
  let given = p.read(0, 3).length;
  for (let i = 0; i < 8; i++) given += p.readahead.more().length;
  assert.ok(given > 1024);
  // 1,024 are looked at, and all of them were given.
  assert.deepEqual(p.read(0, 3), []);
  assert.deepEqual(p.read(0, 1000), p.order.slice(4 + given, 4 + given + 256));
});

Deno.test("one blob in many places comes once", async () => {
  await using dir = await tempDir();
  const base = new BaseStore(dir.at("base.db") as HostPath);
  const entries = (from: number) =>
    [0, 1, 2, 3].map((file) => ({ mode: "100644", name: `f${from}${file}`, oid: fakeOid(9) }));
  const trees = [0, 1, 2, 3].map((at) => [treeOid(at), rawTree(entries(at))] as const);
  const below = trees.map(([oid], at) => ({ mode: "40000", name: `d${at}`, oid }));
  base.putTrees([...trees, [ROOT, rawTree(below)]]);
  base.markIndexed(ROOT);
  const sizes = (oids: readonly Oid[]) => new Map(oids.map((oid) => [oid, 1]));
  const readahead = new Readahead(sizes, new Lookahead(base, "sha1", ROOT));
  for (let i = 0; i < 3; i++) readahead.after(treeOid(0), fakeOid(8));
  assert.deepEqual(readahead.after(treeOid(0), fakeOid(8)), [fakeOid(9)]);
  assert.deepEqual(readahead.more(), []);
  base.close();
});

Deno.test("before the tree is indexed nothing is read ahead", async () => {
  await using p = await project({ indexed: false });
  for (const file of [0, 1, 2, 3]) assert.deepEqual(p.read(0, file), []);
  p.base.markIndexed(ROOT);
  assert.deepEqual(p.read(1, 0), []);
  assert.deepEqual(p.read(1, 1), []);
  assert.deepEqual(p.read(1, 2), p.order.slice(7, 15));
});
