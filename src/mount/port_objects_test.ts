import assert from "node:assert/strict";
import { deflateSync } from "node:zlib";
import { fakeOid, rawTree } from "../../tests/fakes/fake_objects.ts";
import { objectOid, Random } from "../../tests/support/git_objects.ts";
import { git, run, tempDir } from "../../tests/support/run.ts";
import { ERRNO, FsError } from "../errno.ts";
import { bytesOfOid, type Oid, oid } from "../git/oid.ts";
import { PackDirectory } from "../git/pack_directory.ts";
import { OBJECT_BYTES_MAX } from "../git/pack_object.ts";
import { PackReader } from "../git/pack_reader.ts";
import type { HostPath } from "../path.ts";
import { BaseStore } from "../snapshot/store.ts";
import type { MountCommand, MountEvent } from "./messages.ts";
import { ConvertedFiles } from "./converted.ts";
import { PortObjects } from "./port_objects.ts";

const BLOB = fakeOid(1);
const OTHER = fakeOid(2);
const TREE = fakeOid(3);
const ROOT = fakeOid(4);
const trees = () => [ROOT, TREE];

async function harness(format: "sha1" | "sha256" = "sha1") {
  const dir = await tempDir();
  const basePath = dir.at("base.db") as HostPath;
  const asked: MountEvent[] = [];
  const clock = { now: 0 };
  const gitDir = dir.at("store");
  await git(["init", "--quiet", "--bare", "--template=", `--object-format=${format}`, gitDir]);
  /** What is in the user's git directory. */
  const users = new Map<Oid, Uint8Array<ArrayBuffer>>();
  const packs = new PackReader(new PackDirectory(`${gitDir}/objects/pack`), format);
  const objects = new PortObjects(
    new BaseStore(basePath),
    packs,
    format,
    new ConvertedFiles(dir.at("converted") as HostPath, dir.at("contexts") as HostPath),
    { read: (oid) => users.get(oid), close() {} },
    (event) => asked.push(event),
    () => clock.now,
  );
  // Another thread's connection: the indexer's.
  const indexer = new BaseStore(basePath);
  return {
    dir,
    users,
    asked,
    clock,
    objects,
    indexer,
    /** Puts blobs into the store, as one pack. */
    arrive: async (...blobs: readonly Uint8Array[]): Promise<Oid[]> => {
      const paths = blobs.map((_, i) => dir.at(`blob${i}`));
      blobs.forEach((bytes, i) => Deno.writeFileSync(paths[i] as string, bytes));
      const { stdout } = await git(["-C", gitDir, "hash-object", "-w", "--stdin-paths"], {
        stdin: paths.map((path) => `${path}\n`).join(""),
      });
      const oids = stdout.trim().split("\n").map(oid);
      const args = ["-C", gitDir, "pack-objects", "-q", `${gitDir}/objects/pack/pack`];
      await git(args, { stdin: oids.map((each) => `${each}\n`).join("") });
      return oids;
    },
    async [Symbol.asyncDispose]() {
      objects.close();
      indexer.close();
      await dir.remove();
    },
  };
}

function contents(oid: Oid, text: string): MountCommand {
  return { kind: "contents", oid, bytes: new TextEncoder().encode(text).buffer };
}

function sizes(...known: (readonly [Oid, number])[]): MountCommand {
  return {
    kind: "sizes",
    oids: known.map(([oid]) => oid).join(""),
    sizes: Float64Array.from(known, ([, size]) => size).buffer,
  };
}

function read(objects: PortObjects, oid: Oid, offset: number, size: number): string | undefined {
  const into = new Uint8Array(size).fill(0x23);
  const count = objects.read(oid, offset, into, trees);
  return count === undefined ? undefined : new TextDecoder().decode(into.subarray(0, count));
}

function throwsEio(call: () => unknown): void {
  assert.throws(call, (error) => error instanceof FsError && error.errno === ERRNO.EIO);
}

Deno.test("a tree, a size and bytes are asked for once until the answer comes", async () => {
  await using h = await harness();
  for (let i = 0; i < 3; i++) {
    assert.equal(h.objects.directory(TREE), undefined);
    assert.equal(h.objects.size(BLOB, trees), undefined);
    assert.equal(read(h.objects, BLOB, 0, 10), undefined);
  }
  assert.deepEqual(h.asked, [
    { kind: "want-tree", treeOid: TREE },
    { kind: "want", oid: BLOB, need: "size", trees: [ROOT, TREE], read: 0 },
    { kind: "want", oid: BLOB, need: "content", trees: [ROOT, TREE], read: 0 },
  ]);
});

Deno.test("what is only looked at is not asked for", async () => {
  await using h = await harness();
  assert.equal(h.objects.directoryAtHand(TREE), undefined);
  assert.equal(h.objects.sizeAtHand(BLOB), undefined);
  assert.equal(h.objects.sizesAtHand([BLOB, OTHER]).size, 0);
  assert.deepEqual(h.asked, []);
});

Deno.test("answers name the keys to wake, and are used from then on", async () => {
  await using h = await harness();
  h.objects.directory(TREE);
  h.objects.size(BLOB, trees);
  read(h.objects, BLOB, 0, 1);
  const raw = rawTree([{ mode: "100644", name: "a", oid: BLOB }]);
  assert.deepEqual(h.objects.accept({ kind: "tree", treeOid: TREE, raw: raw.buffer }), [
    `tree:${TREE}`,
  ]);
  assert.deepEqual(h.objects.accept(sizes([BLOB, 5], [OTHER, 2 ** 40])), [
    `size:${BLOB}`,
    `size:${OTHER}`,
  ]);
  assert.deepEqual(h.objects.accept(contents(OTHER, "")), [`content:${OTHER}`]);
  assert.deepEqual(h.objects.accept(contents(BLOB, "hello")), [`content:${BLOB}`]);
  h.asked.length = 0;
  assert.equal(h.objects.directory(TREE)?.entries[0]?.name, "a");
  assert.equal(h.objects.size(BLOB, trees), 5);
  assert.equal(h.objects.size(OTHER, trees), 2 ** 40);
  assert.deepEqual([...h.objects.sizesAtHand([OTHER, BLOB])], [[OTHER, 2 ** 40], [BLOB, 5]]);
  assert.equal(read(h.objects, BLOB, 0, 5), "hello");
  assert.equal(read(h.objects, BLOB, 1, 3), "ell");
  assert.equal(read(h.objects, BLOB, 3, 100), "lo");
  assert.equal(read(h.objects, BLOB, 5, 100), "");
  assert.equal(read(h.objects, BLOB, 2 ** 40, 100), "");
  assert.equal(read(h.objects, OTHER, 0, 100), "");
  assert.deepEqual(h.asked, []);
});

Deno.test("sha256 oids", async () => {
  await using h = await harness("sha256");
  const [a, b] = [fakeOid(1, "sha256"), fakeOid(2, "sha256")];
  assert.deepEqual(h.objects.accept(contents(a, "alone")), [`content:${a}`]);
  assert.equal(read(h.objects, a, 0, 10), "alone");
  h.objects.accept(sizes([a, 1], [b, 2]));
  assert.deepEqual([h.objects.sizeAtHand(a), h.objects.sizeAtHand(b)], [1, 2]);
});

Deno.test("what the base has is not asked for, also when it came there later", async () => {
  await using h = await harness();
  assert.equal(h.objects.directoryAtHand(TREE), undefined);
  assert.equal(h.objects.sizeAtHand(BLOB), undefined);
  h.indexer.putTrees([[TREE, rawTree([{ mode: "100644", name: "a", oid: BLOB }])]]);
  h.indexer.putSizes([[BLOB, 7], [OTHER, 0]]);
  assert.equal(h.objects.directory(TREE)?.entries.length, 1);
  assert.equal(h.objects.size(BLOB, trees), 7);
  assert.equal(h.objects.size(OTHER, trees), 0);
  assert.deepEqual(h.asked, []);
});

Deno.test("a size once known is known for ever, whatever else comes", async () => {
  await using h = await harness();
  h.indexer.putSizes([[BLOB, 7]]);
  assert.equal(h.objects.size(BLOB, trees), 7);
  // More than the memory for sizes holds: the base still knows it.
  for (let i = 0; i < 21; i++) {
    h.objects.accept(
      sizes(...Array.from({ length: 5000 }, (_, j) => [fakeOid(10 + 5000 * i + j), 1] as const)),
    );
  }
  h.objects.accept({ kind: "unavailable", oid: BLOB, need: "size" });
  assert.equal(h.objects.size(BLOB, trees), 7);
  assert.deepEqual(h.asked, []);
});

Deno.test("after a failure the same need fails at once for 5 s, then is asked for again", async () => {
  await using h = await harness();
  h.clock.now = 1000;
  const needs: readonly (readonly [MountCommand, () => unknown, string])[] = [
    [{ kind: "tree", treeOid: TREE, raw: null }, () => h.objects.directory(TREE), `tree:${TREE}`],
    [
      { kind: "unavailable", oid: BLOB, need: "size" },
      () => h.objects.size(BLOB, trees),
      `size:${BLOB}`,
    ],
    [
      { kind: "unavailable", oid: BLOB, need: "content" },
      () => read(h.objects, BLOB, 0, 1),
      `content:${BLOB}`,
    ],
  ];
  for (const [failure, call, key] of needs) {
    h.clock.now = 1000;
    h.asked.length = 0;
    assert.equal(call(), undefined);
    assert.equal(h.asked.length, 1);
    assert.deepEqual(h.objects.accept(failure), [key]);
    throwsEio(call);
    h.clock.now = 5999;
    throwsEio(call);
    assert.equal(h.asked.length, 1);
    h.clock.now = 6000;
    assert.equal(call(), undefined, key);
    assert.equal(call(), undefined);
    assert.equal(h.asked.length, 2);
  }
});

Deno.test("a failed size does not fail the bytes, nor the other way round", async () => {
  await using h = await harness();
  h.objects.accept({ kind: "unavailable", oid: BLOB, need: "size" });
  assert.equal(read(h.objects, BLOB, 0, 1), undefined);
  h.objects.accept({ kind: "unavailable", oid: OTHER, need: "content" });
  assert.equal(h.objects.size(OTHER, trees), undefined);
});

Deno.test("an answer that comes after all ends the failure", async () => {
  await using h = await harness();
  h.objects.accept({ kind: "unavailable", oid: BLOB, need: "content" });
  throwsEio(() => read(h.objects, BLOB, 0, 1));
  h.objects.accept(contents(BLOB, "x"));
  assert.equal(read(h.objects, BLOB, 0, 1), "x");
});

const bytesOf = (text: string) => new TextEncoder().encode(text);

for (const format of ["sha1", "sha256"] as const) {
  Deno.test(`what is in a pack is answered at once (${format})`, async () => {
    await using h = await harness(format);
    const big = new Random(1).bytes(300_000);
    const [hello, empty, large] = await h.arrive(bytesOf("hello"), new Uint8Array(), big);
    assert.equal(h.objects.size(hello!, trees), 5);
    assert.equal(h.objects.sizeAtHand(hello!), 5);
    assert.equal(read(h.objects, hello!, 1, 3), "ell");
    assert.equal(read(h.objects, hello!, 0, 4096), "hello");
    assert.equal(read(h.objects, hello!, 5, 4096), "");
    assert.equal(h.objects.size(empty!, trees), 0);
    assert.equal(read(h.objects, empty!, 0, 4096), "");
    const into = new Uint8Array(131072);
    for (let at = 0; at < big.length; at += into.length) {
      const count = h.objects.read(large!, at, into, trees);
      assert.equal(count, Math.min(into.length, big.length - at));
      assert.deepEqual(into.subarray(0, count), big.subarray(at, at + into.length));
    }
    assert.deepEqual(h.asked, []);
  });
}

Deno.test("big blobs, and the sizes of those that are not small, are asked for", async () => {
  await using h = await harness();
  const random = new Random(2);
  const [some, big] = await h.arrive(
    random.bytes(200_000),
    random.bytes(OBJECT_BYTES_MAX + 1),
  );
  assert.equal(h.objects.size(some!, trees), undefined);
  assert.equal(h.objects.size(big!, trees), undefined);
  assert.equal(read(h.objects, big!, 0, 10), undefined);
  assert.deepEqual(h.asked, [
    { kind: "want", oid: some, need: "size", trees: [ROOT, TREE], read: 0 },
    { kind: "want", oid: big, need: "size", trees: [ROOT, TREE], read: 0 },
    { kind: "want", oid: big, need: "content", trees: [ROOT, TREE], read: 0 },
  ]);
});

Deno.test("packs that have come: who waits is woken, what is there is read, the rest waits", async () => {
  await using h = await harness();
  const blob = bytesOf("later");
  const later = oid(objectOid("blob", blob, "sha1"));
  h.objects.directory(TREE);
  assert.equal(h.objects.size(later, trees), undefined);
  assert.equal(read(h.objects, later, 0, 10), undefined);
  assert.equal(h.objects.size(OTHER, trees), undefined);
  await h.arrive(blob);
  h.asked.length = 0;
  assert.equal(read(h.objects, later, 0, 10), undefined, "nobody said that it has come");
  const keys = [`size:${later}`, `content:${later}`, `size:${OTHER}`];
  assert.deepEqual(h.objects.accept({ kind: "arrived", paths: [] }), keys);
  assert.equal(h.objects.size(later, trees), 5);
  assert.equal(read(h.objects, later, 0, 10), "later");
  assert.equal(h.objects.size(OTHER, trees), undefined);
  assert.deepEqual(h.asked, [], "the answer to each is on its way");
  // And the answers change nothing.
  h.objects.accept(sizes([later, 5]));
  h.objects.accept(contents(later, "later"));
  assert.equal(read(h.objects, later, 0, 10), "later");
});

Deno.test("what arrives is read from the file it arrives in, and its size is not told yet", async () => {
  await using h = await harness();
  const blob = bytesOf("arriving");
  const later = oid(objectOid("blob", blob, "sha1"));
  const never = oid(objectOid("blob", bytesOf("never"), "sha1"));
  assert.equal(h.objects.size(later, trees), undefined);
  assert.equal(read(h.objects, later, 0, 10), undefined);
  assert.equal(read(h.objects, never, 0, 10), undefined);
  h.asked.length = 0;
  // An entry of a pack: a type, a size, a zlib stream. The second one is not what it is called.
  const entry = new Uint8Array([0x30 | blob.length, ...deflateSync(blob)]);
  const path = h.dir.at("arriving");
  await Deno.writeFile(path, new Uint8Array([...new Uint8Array(12), ...entry, ...entry]));
  const arriving: MountCommand = {
    kind: "arriving",
    path,
    oids: Uint8Array.from([later, never].flatMap((each) => [...bytesOfOid(each)])).buffer,
    offsets: Float64Array.of(12, 12 + entry.length).buffer,
    sizes: Float64Array.of(blob.length, blob.length).buffer,
  };
  const keys = [`size:${later}`, `content:${later}`, `content:${never}`];
  assert.deepEqual(h.objects.accept(arriving), keys);
  assert.equal(h.objects.size(later, trees), blob.length);
  assert.deepEqual(h.objects.sizesAtHand([later]), new Map([[later, blob.length]]));
  assert.equal(read(h.objects, later, 0, 10), "arriving");
  assert.equal(h.objects.heldSize(later), undefined, "it may go again");
  assert.equal(read(h.objects, never, 0, 10), undefined, "its hash is another");
  h.objects.tellSizes();
  assert.deepEqual(h.asked, [], "the base keeps what is in a pack that is complete");
  await Deno.remove(path);
  assert.deepEqual(h.objects.accept({ kind: "arrived", paths: [path] }), keys);
  assert.equal(read(h.objects, later, 0, 10), undefined);
  assert.equal(h.objects.size(later, trees), blob.length, "a size is never unknown again");
});

Deno.test("what was read here is told with the next want", async () => {
  await using h = await harness();
  const oids = await h.arrive(bytesOf("a"), bytesOf("b"), bytesOf("c"));
  for (const each of oids) read(h.objects, each, 0, 10);
  read(h.objects, oids[0]!, 1, 10);
  h.objects.size(BLOB, trees);
  h.objects.size(OTHER, trees);
  assert.deepEqual(h.asked.map((event) => event.kind === "want" ? event.read : null), [3, 0]);
});

Deno.test("sizes found here are told, for the base to keep", async () => {
  await using h = await harness();
  const blobs = Array.from({ length: 300 }, (_, i) => bytesOf(`${i}`.repeat(1 + i % 7)));
  const oids = blobs.map((bytes) => oid(objectOid("blob", bytes, "sha1")));
  await h.arrive(...blobs);
  for (const [i, each] of oids.entries()) {
    assert.equal(h.objects.size(each, trees), blobs[i]?.length);
  }
  const told = h.asked.flatMap((event) => event.kind === "sizes" ? event.sizes : []);
  assert.equal(told.length, 256);
  for (const [i, [each, size]] of told.entries()) {
    assert.equal(each, oids[i]);
    assert.equal(size, blobs[i]?.length);
  }
});

Deno.test("what only the user's git directory has is served, and imported", async () => {
  await using h = await harness();
  const [bytes, other] = [bytesOf("of the user"), bytesOf("another")];
  const [blob, gone] = [bytes, other].map((each) => oid(objectOid("blob", each, "sha1"))) as [
    Oid,
    Oid,
  ];
  h.users.set(blob, bytes).set(gone, other);
  assert.equal(h.objects.size(blob, trees), bytes.length);
  assert.equal(h.objects.sizeAtHand(blob), bytes.length);
  assert.equal(read(h.objects, blob, 3, 100), "the user");
  assert.equal(read(h.objects, gone, 0, 100), "another");
  h.objects.tellSizes();
  // No size is told: in the base it would say that the blob is here.
  const told = [blob, gone].map((oid) => ({ kind: "borrowed", oid }));
  assert.deepEqual(h.asked.splice(0), told);

  // The user's git removes them; one of the two was imported before.
  h.users.clear();
  await h.arrive(bytes);
  assert.deepEqual(h.objects.accept({ kind: "imported" }), []);
  assert.equal(h.objects.heldSize(blob), bytes.length);
  assert.equal(h.objects.heldSize(gone), undefined);
  assert.deepEqual(h.asked, []);
  // What is still in memory is pushed out.
  for (let i = 0; i < 5; i++) {
    const big = new Uint8Array(1024 * 1024);
    h.objects.accept({ kind: "contents", oid: fakeOid(100 + i), bytes: big.buffer });
  }
  assert.equal(read(h.objects, blob, 0, 100), "of the user");
  assert.equal(read(h.objects, gone, 0, 100), undefined);
  assert.deepEqual(h.asked.map(({ kind }) => kind), ["want"]);
  assert.equal(h.objects.sizeAtHand(gone), other.length);
});

Deno.test("who waits for the answer does not look there again; after a failure it is looked at", async () => {
  await using h = await harness();
  assert.equal(read(h.objects, BLOB, 0, 9), undefined);
  h.users.set(BLOB, bytesOf("late"));
  assert.equal(read(h.objects, BLOB, 0, 9), undefined);
  h.objects.accept({ kind: "unavailable", oid: BLOB, need: "content" });
  assert.equal(read(h.objects, BLOB, 0, 9), "late");
});

Deno.test("a spool file is read while it grows, and never beyond what is there", async () => {
  await using h = await harness();
  const path = h.dir.at("spool");
  const text = "0123456789abcdefghij";
  const spool = (availableBytes: number): MountCommand => ({
    kind: "spool",
    oid: BLOB,
    path,
    sizeBytes: text.length,
    availableBytes,
  });
  assert.equal(read(h.objects, BLOB, 0, 4), undefined);
  await Deno.writeTextFile(path, text.slice(0, 12));
  assert.deepEqual(h.objects.accept(spool(10)), [`content:${BLOB}`]);
  assert.equal(read(h.objects, BLOB, 0, 4), "0123");
  assert.equal(read(h.objects, BLOB, 6, 4), "6789");
  assert.equal(read(h.objects, BLOB, 6, 5), undefined, "never a part of what was asked");
  assert.equal(read(h.objects, BLOB, 18, 100), undefined);
  assert.equal(read(h.objects, BLOB, 20, 100), "");
  assert.equal(read(h.objects, BLOB, 2 ** 40, 100), "");
  assert.equal(h.asked.length, 1, "it is on its way already");
  await Deno.writeTextFile(path, text);
  assert.deepEqual(h.objects.accept(spool(text.length)), [`content:${BLOB}`]);
  assert.equal(read(h.objects, BLOB, 6, 5), "6789a");
  assert.equal(read(h.objects, BLOB, 18, 100), "ij");
  assert.equal(h.asked.length, 1);
});

Deno.test("a spool file keeps its bytes for a reader when it is removed", async () => {
  await using h = await harness();
  const path = h.dir.at("spool");
  await Deno.writeTextFile(path, "0123456789");
  h.objects.accept({ kind: "spool", oid: BLOB, path, sizeBytes: 10, availableBytes: 10 });
  await Deno.remove(path);
  assert.equal(read(h.objects, BLOB, 0, 10), "0123456789");
  h.objects.release(BLOB);
  assert.equal(read(h.objects, BLOB, 0, 10), undefined);
  assert.equal(h.asked.length, 1);
});

Deno.test("a spool file that is gone before it was opened is a failure, asked for again later", async () => {
  await using h = await harness();
  const gone: MountCommand = {
    kind: "spool",
    oid: BLOB,
    path: h.dir.at("gone"),
    sizeBytes: 10,
    availableBytes: 10,
  };
  assert.deepEqual(h.objects.accept(gone), [`content:${BLOB}`]);
  throwsEio(() => read(h.objects, BLOB, 0, 1));
  h.clock.now = 5000;
  assert.equal(read(h.objects, BLOB, 0, 1), undefined);
  assert.equal(h.asked.length, 1);
});

Deno.test("a spool that fails half way: EIO, then asked for again, then read from the new file", async () => {
  await using h = await harness();
  const path = h.dir.at("spool");
  await Deno.writeTextFile(path, "01234");
  h.objects.accept({ kind: "spool", oid: BLOB, path, sizeBytes: 10, availableBytes: 5 });
  assert.equal(read(h.objects, BLOB, 5, 5), undefined);
  await Deno.remove(path);
  assert.deepEqual(h.objects.accept({ kind: "unavailable", oid: BLOB, need: "content" }), [
    `content:${BLOB}`,
  ]);
  throwsEio(() => read(h.objects, BLOB, 5, 5));
  h.clock.now = 5000;
  assert.equal(read(h.objects, BLOB, 5, 5), undefined);
  assert.equal(h.asked.length, 1);
  await Deno.writeTextFile(path, "0123456789");
  h.objects.accept({ kind: "spool", oid: BLOB, path, sizeBytes: 10, availableBytes: 10 });
  assert.equal(read(h.objects, BLOB, 5, 5), "56789");
});

Deno.test("no descriptor is left open after close", async () => {
  // By another process: Deno keeps /proc from us. Only ours: other descriptors of the process come
  // and go, and find ends with 1 when one goes under its eyes.
  const open = async (dir: string) =>
    (await run("find", [`/proc/${Deno.pid}/fd`, "-lname", `${dir}/*`, "-printf", "%l\\n"], {
      okCodes: [0, 1],
    })).stdout;
  let dir = "";
  {
    await using h = await harness();
    dir = h.dir.path;
    for (let i = 0; i < 20; i++) {
      const path = h.dir.at(`spool${i}`);
      await Deno.writeTextFile(path, "x");
      h.objects.accept({ kind: "spool", oid: fakeOid(i), path, sizeBytes: 1, availableBytes: 1 });
    }
    const [packed] = await h.arrive(bytesOf("packed"));
    assert.equal(read(h.objects, packed!, 0, 10), "packed");
    const names = await open(dir);
    assert.ok(/\.pack$/m.test(names) && /\/spool/.test(names), names);
    h.objects.release(fakeOid(3));
    h.objects.release(fakeOid(3));
  }
  assert.equal(await open(dir), "");
});
