import assert from "node:assert/strict";
import { fakeOid } from "../../tests/fakes/fake_objects.ts";
import { tempDir } from "../../tests/support/run.ts";
import type { ObjectSink } from "../git/cat_file.ts";
import type { HostPath } from "../path.ts";
import type { Spool } from "./messages.ts";
import { SpoolDirectory } from "./spool.ts";

const BLOB = fakeOid(1);
const MIB = 1024 * 1024;

async function harness() {
  const dir = await tempDir();
  const told: Spool[] = [];
  const spools = new SpoolDirectory(dir.at("blobs") as HostPath, (event) => told.push(event));
  return {
    told,
    spools,
    path: dir.at("blobs", BLOB),
    dir,
    [Symbol.asyncDispose]: () => dir.remove(),
  };
}

function bytes(length: number, from = 0): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, i) => (from + i) * 7 % 251);
}

async function write(sink: ObjectSink, content: Uint8Array, chunkBytes: number): Promise<void> {
  for (let at = 0; at < content.length; at += chunkBytes) {
    await sink.chunk(content.subarray(at, at + chunkBytes));
  }
}

Deno.test("a new spool directory is private and empty, whatever was left there", async () => {
  await using dir = await tempDir();
  await Deno.mkdir(dir.at("blobs"));
  await Deno.writeTextFile(dir.at("blobs", "left over"), "x");
  new SpoolDirectory(dir.at("blobs") as HostPath, () => {});
  assert.deepEqual([...Deno.readDirSync(dir.at("blobs"))], []);
  new SpoolDirectory(dir.at("new") as HostPath, () => {});
  assert.equal((Deno.statSync(dir.at("new")).mode ?? 0) & 0o777, 0o700);
});

Deno.test("a blob grows, says so every 2 MiB, and once when it is whole", async () => {
  await using h = await harness();
  const content = bytes(5 * MIB + 3);
  const sink = await h.spools.create(BLOB, content.length, 7);
  await write(sink, content, 64 * 1024);
  assert.deepEqual(h.told.map(({ availableBytes }) => availableBytes), [2 * MIB, 4 * MIB]);
  h.spools.finish(BLOB);
  assert.deepEqual(h.told.at(-1), {
    kind: "spool",
    mountId: 7,
    oid: BLOB,
    path: h.path,
    sizeBytes: content.length,
    availableBytes: content.length,
  });
  assert.deepEqual(await Deno.readFile(h.path), content);
  assert.equal((Deno.statSync(h.path).mode ?? 0) & 0o777, 0o600);
  h.spools.finish(BLOB);
  assert.equal(h.told.length, 3);
});

Deno.test("what was told is on disk at that moment", async () => {
  await using dir = await tempDir();
  const content = bytes(5 * MIB);
  let told = 0;
  const spools = new SpoolDirectory(dir.at("b") as HostPath, ({ path, availableBytes }) => {
    assert.ok(Deno.statSync(path).size >= availableBytes);
    assert.deepEqual(
      Deno.readFileSync(path).subarray(0, availableBytes),
      content.subarray(0, availableBytes),
    );
    told++;
  });
  await write(await spools.create(BLOB, content.length, 1), content, 100_000);
  spools.finish(BLOB);
  assert.equal(told, 3);
});

Deno.test("a second mount that follows is told where it stands, and from then on", async () => {
  await using h = await harness();
  assert.equal(h.spools.follow(BLOB, 8), false);
  const content = bytes(3 * MIB);
  const sink = await h.spools.create(BLOB, content.length, 7);
  await write(sink, content.subarray(0, MIB), MIB);
  assert.equal(h.spools.follow(BLOB, 8), true);
  assert.deepEqual(h.told.map(({ mountId, availableBytes }) => [mountId, availableBytes]), [
    [8, MIB],
  ]);
  await write(sink, content.subarray(MIB), MIB);
  h.spools.finish(BLOB);
  const whole = h.told.filter(({ availableBytes }) => availableBytes === content.length);
  assert.deepEqual(whole.map(({ mountId }) => mountId).sort(), [7, 8]);
  h.told.length = 0;
  assert.equal(h.spools.follow(BLOB, 9), true);
  assert.equal(h.told[0]?.availableBytes, content.length);
});

Deno.test("two readers at the same moment: one file, one writer, both mounts are told", async () => {
  await using h = await harness();
  const content = bytes(2 * MIB + 5);
  const [first, second] = await Promise.all([
    h.spools.create(BLOB, content.length, 7),
    h.spools.create(BLOB, content.length, 8),
  ]);
  await Promise.all([write(first, content, 300_000), write(second, content, 70_000)]);
  h.spools.finish(BLOB);
  h.spools.finish(BLOB);
  assert.deepEqual(await Deno.readFile(h.path), content);
  const whole = h.told.filter(({ availableBytes }) => availableBytes === content.length);
  assert.deepEqual([...new Set(whole.map(({ mountId }) => mountId))].sort(), [7, 8]);
});

Deno.test("a blob that is not whole is not finished", async () => {
  await using h = await harness();
  const sink = await h.spools.create(BLOB, 10, 7);
  await sink.chunk(bytes(9));
  h.spools.finish(BLOB);
  assert.deepEqual(h.told, []);
  await sink.chunk(bytes(1));
  h.spools.finish(BLOB);
  assert.equal(h.told.length, 1);
});

Deno.test("an abandoned blob: the file goes, the mounts are named, a new attempt starts empty", async () => {
  await using h = await harness();
  const sink = await h.spools.create(BLOB, 10, 7);
  await sink.chunk(bytes(5));
  h.spools.follow(BLOB, 8);
  assert.deepEqual(h.spools.abandon(BLOB, sink).sort(), [7, 8]);
  assert.throws(() => Deno.statSync(h.path), Deno.errors.NotFound);
  assert.equal(h.spools.follow(BLOB, 7), false);
  assert.deepEqual(h.spools.abandon(BLOB, sink), []);
  const again = await h.spools.create(BLOB, 4, 7);
  await again.chunk(bytes(4));
  h.spools.finish(BLOB);
  assert.deepEqual(await Deno.readFile(h.path), bytes(4));
});

Deno.test("a finished blob cannot be abandoned", async () => {
  await using h = await harness();
  const sink = await h.spools.create(BLOB, 3, 7);
  await sink.chunk(bytes(3));
  h.spools.finish(BLOB);
  assert.deepEqual(h.spools.abandon(BLOB, sink), []);
  assert.equal(h.spools.follow(BLOB, 7), true);
  assert.equal(Deno.statSync(h.path).size, 3);
});

async function quotaHarness(quotaBytes: number) {
  const dir = await tempDir();
  const spools = new SpoolDirectory(dir.at("blobs") as HostPath, () => {}, quotaBytes);
  const begin = (number: number, sizeBytes: number) => {
    const sink = spools.create(fakeOid(number), sizeBytes, 1);
    return async () => {
      await sink.chunk(bytes(sizeBytes, number));
      spools.finish(fakeOid(number));
    };
  };
  return {
    spools,
    begin,
    put: (number: number, sizeBytes: number) => begin(number, sizeBytes)(),
    pathOf: (number: number) => dir.at("blobs", fakeOid(number)),
    /** Numbers of the files on disk. */
    files: () =>
      [...Deno.readDirSync(dir.at("blobs"))].map(({ name }) => Number.parseInt(name, 16))
        .sort((a, b) => a - b),
    [Symbol.asyncDispose]: () => dir.remove(),
  };
}

Deno.test("above the quota the files go that were used longest ago", async () => {
  await using h = await quotaHarness(100);
  for (const number of [1, 2, 3]) await h.put(number, 30);
  assert.deepEqual(h.files(), [1, 2, 3]);
  h.spools.follow(fakeOid(1), 7);
  await h.put(4, 30);
  assert.deepEqual(h.files(), [1, 3, 4]);
  await h.put(5, 60);
  assert.deepEqual(h.files(), [4, 5]);
  assert.equal(h.spools.follow(fakeOid(3), 7), false);
  await h.put(3, 10);
  assert.deepEqual(h.files(), [3, 4, 5]);
  assert.deepEqual(await Deno.readFile(h.pathOf(3)), bytes(10, 3));
});

Deno.test("a file that goes stays readable for who has it open", async () => {
  await using h = await quotaHarness(100);
  await h.put(1, 80);
  using open = await Deno.open(h.pathOf(1));
  await h.put(2, 80);
  assert.deepEqual(h.files(), [2]);
  const read = new Uint8Array(81);
  let length = 0;
  for (;;) {
    const count = await open.read(read.subarray(length));
    if (count === null) break;
    length += count;
  }
  assert.deepEqual(read.subarray(0, length), bytes(80, 1));
});

Deno.test("the file that was just finished stays, alone above the quota or begun long ago", async () => {
  await using h = await quotaHarness(100);
  await h.put(1, 500);
  assert.deepEqual(h.files(), [1]);
  const finishTwo = h.begin(2, 60);
  await h.put(3, 60);
  assert.deepEqual(h.files(), [2, 3]);
  // Nobody may have opened it yet: the mounts are told of it now.
  await finishTwo();
  assert.deepEqual(h.files(), [2]);
});

Deno.test("files that are being written do not go, and do not count", async () => {
  await using h = await quotaHarness(100);
  const finishOne = h.begin(1, 90);
  for (const number of [2, 3]) await h.put(number, 50);
  assert.deepEqual(h.files(), [1, 2, 3]);
  await finishOne();
  assert.deepEqual(h.files(), [1]);
});
