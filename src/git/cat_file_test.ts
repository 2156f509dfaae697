import assert from "node:assert/strict";
import { ObjectWriter } from "../../tests/support/git_objects.ts";
import { git, run, tempDir, waitFor } from "../../tests/support/run.ts";
import type { HostPath } from "../path.ts";
import { CatFile, CollectingSink, type ObjectInfo, type ObjectSink } from "./cat_file.ts";
import { type Oid, oid } from "./oid.ts";
import { createView } from "./view.ts";

const BIG_BYTES = 24 * 1024 * 1024;

function bigBytes(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(BIG_BYTES);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 2654435761) >>> 24;
  return bytes;
}

const ABSENT = oid("ab".repeat(20));

async function repository(format: "sha1" | "sha256" = "sha1") {
  const dir = await tempDir();
  const gitDir = dir.at("store.git");
  await git(["init", "-q", "--bare", `--object-format=${format}`, gitDir]);
  const writer = new ObjectWriter(format);
  const texts = ["", "one\n", "two\nlines\n", "x".repeat(100_000)];
  const blobs = texts.map((text) => ({ text, oid: oid(writer.blob(text)) }));
  const treeOid = oid(
    writer.rawTree([{ mode: "100644", name: "a", oid: (blobs[1] as { oid: Oid }).oid }]),
  );
  const commitOid = oid(writer.commit(treeOid, [], 1, "first"));
  const bigOid = format === "sha1" ? oid(writer.blob(bigBytes())) : null;
  await writer.flush(gitDir);
  const viewDir = dir.at("view") as HostPath;
  await createView(viewDir, { objectFormat: format, objectDirs: [`${gitDir}/objects`] });
  return { dir, viewDir, blobs, treeOid, commitOid, bigOid: bigOid as Oid };
}

function textOf(sink: CollectingSink): string {
  return new TextDecoder().decode(sink.bytes);
}

/** The process that reads in a view directory. By a shell: Deno keeps /proc from us. */
async function pidOf(viewDir: string): Promise<number | null> {
  const script = `for p in /proc/[0-9]*; do
    tr '\\0' '\\n' < "$p/environ" 2>/dev/null | grep -qx "GIT_DIR=$1" && echo "\${p#/proc/}"
  done; true`;
  const { stdout } = await run("sh", ["-c", script, "sh", viewDir]);
  const [pid] = stdout.split("\n");
  return pid === undefined || pid === "" ? null : Number(pid);
}

Deno.test("contents of objects of every type", async () => {
  const { dir, viewDir, blobs, treeOid, commitOid } = await repository();
  await using _ = dir;
  const reader = new CatFile(viewDir, "contents");
  for (const { text, oid } of blobs) {
    const sink = new CollectingSink();
    assert.deepEqual(await reader.request(oid, sink), { type: "blob", sizeBytes: text.length });
    assert.equal(textOf(sink), text);
  }
  assert.equal((await reader.request(treeOid, new CollectingSink()))?.type, "tree");
  assert.equal((await reader.request(commitOid, new CollectingSink()))?.type, "commit");
  await reader.close();
});

Deno.test("pipelined requests are answered in order, missing ones among them", async () => {
  const { dir, viewDir, blobs } = await repository();
  await using _ = dir;
  const reader = new CatFile(viewDir, "contents");
  const order: number[] = [];
  const asked = Array.from({ length: 300 }, (_, i) => {
    const blob = i % 5 === 4 ? null : blobs[i % 4] as { oid: Oid; text: string };
    const sink = new CollectingSink();
    const answer = reader.request(blob?.oid ?? ABSENT, sink).then((info) => {
      order.push(i);
      return info;
    });
    return { blob, sink, answer };
  });
  assert.equal(reader.queued, 300);
  for (const { blob, sink, answer } of asked) {
    const info = await answer;
    if (blob === null) assert.equal(info, null);
    else assert.equal(textOf(sink), blob.text);
  }
  assert.deepEqual(order, [...order].sort((a, b) => a - b));
  assert.equal(reader.queued, 0);
  await reader.close();
});

Deno.test("check: sizes of many at once, missing ones are null, and git lives on", async () => {
  const { dir, viewDir, blobs, bigOid } = await repository();
  await using _ = dir;
  const checker = new CatFile(viewDir, "check");
  const oids = [ABSENT, ...blobs.map((blob) => blob.oid), bigOid, ABSENT];
  const infos = await Promise.all(checker.requestMany(oids, null));
  assert.deepEqual(infos.map((info) => info?.sizeBytes ?? null), [
    null,
    ...blobs.map(({ text }) => text.length),
    BIG_BYTES,
    null,
  ]);
  assert.equal(await checker.request(ABSENT), null);
  assert.equal((await checker.request(bigOid))?.sizeBytes, BIG_BYTES);
  assert.deepEqual(checker.requestMany([], null), []);
  await checker.close();
});

Deno.test("sha256", async () => {
  const { dir, viewDir, blobs } = await repository("sha256");
  await using _ = dir;
  const reader = new CatFile(viewDir, "contents");
  const sink = new CollectingSink();
  await reader.request((blobs[1] as { oid: Oid }).oid, sink);
  assert.equal(textOf(sink), "one\n");
  assert.equal(await reader.request(oid("ab".repeat(32))), null);
  await reader.close();
});

Deno.test("a big object comes in pieces, and a slow taker slows git", async () => {
  const { dir, viewDir, bigOid, blobs } = await repository();
  await using _ = dir;
  const reader = new CatFile(viewDir, "contents");
  const whole = new CollectingSink();
  let pieces = 0;
  let largest = 0;
  let busy = false;
  const sink: ObjectSink = {
    start: (info: ObjectInfo) => whole.start(info),
    chunk: async (bytes) => {
      assert.ok(!busy, "a piece before the last was taken");
      busy = true;
      pieces++;
      largest = Math.max(largest, bytes.length);
      if (pieces % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      whole.chunk(bytes);
      busy = false;
    },
  };
  const big = reader.request(bigOid, sink);
  const small = new CollectingSink();
  const after = reader.request((blobs[1] as { oid: Oid }).oid, small);
  await Promise.all([big, after]);
  assert.ok(pieces > 10, `${pieces} pieces`);
  assert.ok(largest <= 1024 * 1024, `a piece of ${largest} bytes`);
  assert.deepEqual(whole.bytes, bigBytes());
  assert.equal(textOf(small), "one\n");
  await reader.close();
});

Deno.test("git killed inside an object: that request and those behind it fail, the next works", async () => {
  const { dir, viewDir, bigOid, blobs } = await repository();
  await using _ = dir;
  const one = (blobs[1] as { oid: Oid }).oid;
  const reader = new CatFile(viewDir, "contents");
  let gate = Promise.withResolvers<void>();
  let taken = 0;
  const slow: ObjectSink = {
    start: () => {},
    chunk: async (bytes) => {
      taken += bytes.length;
      await gate.promise;
    },
  };
  const big = reader.request(bigOid, slow);
  const behind = [reader.request(one, new CollectingSink()), reader.request(ABSENT)];
  const settled = Promise.allSettled([big, ...behind]);
  await waitFor(() => taken > 0, "first piece");
  const pid = await pidOf(viewDir);
  assert.ok(pid !== null);
  Deno.kill(pid, "SIGKILL");
  gate.resolve();
  const results = await settled;
  assert.deepEqual(results.map(({ status }) => status), ["rejected", "rejected", "rejected"]);
  assert.ok(taken < BIG_BYTES);
  assert.equal(reader.queued, 0);

  gate = Promise.withResolvers();
  const sink = new CollectingSink();
  assert.equal((await reader.request(one, sink))?.sizeBytes, 4);
  assert.equal(textOf(sink), "one\n");
  await reader.close();
});

Deno.test("git killed while nobody waits: at most the next request fails, then all is well", async () => {
  const { dir, viewDir, blobs } = await repository();
  await using _ = dir;
  const one = (blobs[1] as { oid: Oid }).oid;
  const reader = new CatFile(viewDir, "check");
  await reader.request(one);
  const pid = await pidOf(viewDir);
  assert.ok(pid !== null);
  Deno.kill(pid, "SIGKILL");
  await reader.request(one).catch(() => null);
  await waitFor(async () => {
    const info = await reader.request(one).catch(() => null);
    return info?.sizeBytes === 4;
  }, "answer of a new process");
  await reader.close();
});

Deno.test("a sink that throws fails the requests of its process, not the reader", async () => {
  const { dir, viewDir, blobs } = await repository();
  await using _ = dir;
  const one = (blobs[1] as { oid: Oid }).oid;
  const reader = new CatFile(viewDir, "contents");
  const failing: ObjectSink = {
    start: () => {
      throw new Error("the disk is full");
    },
    chunk: () => {},
  };
  await assert.rejects(reader.request(one, failing), /the disk is full/);
  const sink = new CollectingSink();
  await reader.request(one, sink);
  assert.equal(textOf(sink), "one\n");
  await reader.close();
});

Deno.test("after close requests fail, and no process is left", async () => {
  const { dir, viewDir, blobs } = await repository();
  await using _ = dir;
  const one = (blobs[1] as { oid: Oid }).oid;
  const reader = new CatFile(viewDir, "contents");
  await reader.request(one);
  await reader.close();
  await assert.rejects(reader.request(one));
  await assert.rejects(reader.request(one));
  assert.equal(await pidOf(viewDir), null);
  const never = new CatFile(viewDir, "contents");
  await never.close();
  await assert.rejects(never.request(one));
});

Deno.test("a view that is no repository: requests fail, they do not hang", async () => {
  await using dir = await tempDir();
  const reader = new CatFile(dir.at("nothing") as HostPath, "contents");
  await assert.rejects(reader.request(ABSENT, new CollectingSink()));
  await reader.close();
});
