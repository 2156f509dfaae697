import assert from "node:assert/strict";
import { ObjectWriter, Random, TreeBuilder } from "../../tests/support/git_objects.ts";
import { startGitServer } from "../../tests/support/git_server.ts";
import { git, tempDir, waitFor } from "../../tests/support/run.ts";
import type { HostPath } from "../path.ts";
import { GitFetch } from "./fetch.ts";
import { type ObjectFormat, type Oid, oid } from "./oid.ts";
import { writeStoreConfig } from "./store.ts";
import { createView } from "./view.ts";

const FILES = 12;

/** A remote with some files, and a partial store of it without any blob. */
async function stored(format: ObjectFormat = "sha1") {
  const dir = await tempDir();
  const remote = dir.at("remote.git");
  await git(["init", "-q", "--bare", "-b", "main", `--object-format=${format}`, remote]);
  await git(["-C", remote, "config", "uploadpack.allowFilter", "true"]);
  await git(["-C", remote, "config", "uploadpack.allowAnySHA1InWant", "true"]);
  const writer = new ObjectWriter(format);
  const random = new Random(7);
  const builder = new TreeBuilder();
  const blobs = Array.from({ length: FILES }, (_, i) => {
    const blobOid = oid(writer.blob(random.text(500 + 1000 * i)));
    builder.put(`dir${i % 3}/file${i}`, "100644", blobOid);
    return blobOid;
  });
  const commitOid = oid(writer.commit(builder.write(writer), [], 1, "first"));
  await writer.flush(remote);
  await git(["-C", remote, "update-ref", "refs/heads/main", commitOid]);

  const url = `file://${remote}`;
  const storeGitDir = dir.at("store", "git");
  await Deno.mkdir(dir.at("store"));
  await git(["clone", "-q", "--bare", "--depth=1", "--filter=blob:none", url, storeGitDir]);
  await writeStoreConfig(storeGitDir, {
    remoteUrl: url,
    objectFormat: format,
    partial: true,
    credentials: [],
  });
  const stagingDir = dir.at("store", "staging");
  const viewDir = dir.at("view");
  await createView(viewDir, { objectFormat: format, objectDirs: [`${storeGitDir}/objects`] });
  const source = new GitFetch({
    storeGitDir: storeGitDir as HostPath,
    stagingDir: stagingDir as HostPath,
    objectFormat: format,
  });
  /** Which of these are in the store, without fetching. */
  const present = async (oids: readonly Oid[]) => {
    const { stdout } = await git(["--git-dir", viewDir, "cat-file", "--batch-check"], {
      stdin: oids.map((each) => `${each}\n`).join(""),
      env: { GIT_NO_LAZY_FETCH: "1" },
    });
    return stdout.trim().split("\n").map((line) => !line.endsWith("missing"));
  };
  return {
    dir,
    remote,
    storeGitDir,
    stagingDir,
    packDir: `${storeGitDir}/objects/pack`,
    source,
    blobs,
    commitOid,
    present,
  };
}

function packsIn(packDir: string): Map<string, string[]> {
  const packs = new Map<string, string[]>();
  for (const { name } of Deno.readDirSync(packDir)) {
    const [pack = "", suffix = ""] = name.split(".");
    packs.set(pack, [...packs.get(pack) ?? [], suffix].sort());
  }
  return packs;
}

async function fsck(gitDir: string): Promise<void> {
  const { stdout, stderr } = await git(["--git-dir", gitDir, "fsck", "--strict", "--no-dangling"]);
  const complaints = `${stdout}${stderr}`.split("\n")
    .filter((line) => /error|missing|broken|corrupt|fatal/.test(line));
  assert.deepEqual(complaints, []);
}

function absent(digit: string, format: ObjectFormat = "sha1"): Oid {
  return digit.repeat(format === "sha1" ? 40 : 64) as Oid;
}

for (const format of ["sha1", "sha256"] as const) {
  Deno.test(`${format}: asked blobs come as a promisor pack that is kept, others do not`, async () => {
    const s = await stored(format);
    await using _ = s.dir;
    const before = packsIn(s.packDir);
    assert.deepEqual(await s.present(s.blobs), new Array(FILES).fill(false));
    const wanted = s.blobs.slice(0, 5);
    const { packBytes, packs, lost } = await s.source.fetchBlobs(wanted);
    assert.deepEqual(lost, []);
    assert.deepEqual(await s.present(s.blobs), s.blobs.map((_, i) => i < 5));
    const added = [...packsIn(s.packDir)].filter(([pack]) => !before.has(pack));
    assert.equal(added.length, 1);
    const [[pack, suffixes]] = added as [[string, string[]]];
    for (const suffix of ["idx", "keep", "pack", "promisor"]) assert.ok(suffixes.includes(suffix));
    const { size, mode } = await Deno.stat(`${s.packDir}/${pack}.pack`);
    assert.equal(packBytes, size);
    // Only what was fetched so, not the first clone's.
    assert.deepEqual(packs, [pack]);
    assert.deepEqual(await s.source.packs(), [pack]);
    assert.deepEqual((await s.source.objectsOf(pack)).sort(), wanted.toSorted());
    assert.deepEqual(await s.source.objectsOf("pack-gone"), []);
    assert.equal((mode ?? 0) & 0o777, 0o444);
    await fsck(s.storeGitDir);
  });

  Deno.test(`${format}: what the remote lacks is reported, the others still come`, async () => {
    const s = await stored(format);
    await using _ = s.dir;
    const gone = [absent("a", format), absent("b", format)];
    const wanted = [gone[0] as Oid, s.blobs[0] as Oid, gone[1] as Oid, s.blobs[1] as Oid];
    const { lost } = await s.source.fetchBlobs(wanted);
    assert.deepEqual([...lost].sort(), gone);
    assert.deepEqual(await s.present(s.blobs.slice(0, 3)), [true, true, false]);
    await fsck(s.storeGitDir);
  });

  Deno.test(`${format}: a whole commit brings every blob`, async () => {
    const s = await stored(format);
    await using _ = s.dir;
    const { packBytes } = await s.source.fetchCommit(s.commitOid);
    assert.ok(packBytes > 0);
    assert.deepEqual(await s.present(s.blobs), new Array(FILES).fill(true));
    await fsck(s.storeGitDir);
  });
}

Deno.test("only lost objects, and none at all", async () => {
  const s = await stored();
  await using _ = s.dir;
  const before = packsIn(s.packDir);
  assert.deepEqual(await s.source.fetchBlobs([absent("a")]), {
    arrived: false,
    packBytes: 0,
    packs: [],
    lost: [absent("a")],
    left: [],
  });
  assert.deepEqual(await s.source.fetchBlobs([]), {
    arrived: false,
    packBytes: 0,
    packs: [],
    lost: [],
    left: [],
  });
  assert.deepEqual(packsIn(s.packDir), before);
});

Deno.test(".pack, .promisor and .keep are there before the .idx", async () => {
  const s = await stored();
  await using _ = s.dir;
  const before = packsIn(s.packDir);
  const order: string[] = [];
  const watcher = Deno.watchFs(s.packDir);
  const watching = (async () => {
    for await (const { paths } of watcher) {
      for (const path of paths) {
        const [pack = "", suffix = ""] = (path.split("/").at(-1) ?? "").split(".");
        if (!before.has(pack) && !order.includes(suffix)) order.push(suffix);
      }
    }
  })();
  await s.source.fetchBlobs(s.blobs.slice(0, 3));
  await waitFor(() => order.includes("idx"), "event for the .idx");
  watcher.close();
  await watching;
  assert.equal(order.at(-1), "idx", order.join(" "));
  for (const suffix of ["pack", "promisor", "keep"]) assert.ok(order.includes(suffix), suffix);
});

Deno.test("fetches at the same time do not meet, and leave staging without packs", async () => {
  const s = await stored();
  await using _ = s.dir;
  await Promise.all(
    [0, 1, 2].map((i) => s.source.fetchBlobs(s.blobs.slice(4 * i, 4 * i + 4))),
  );
  assert.deepEqual(await s.present(s.blobs), new Array(FILES).fill(true));
  for (const { name } of Deno.readDirSync(s.stagingDir)) {
    const packs = [...Deno.readDirSync(`${s.stagingDir}/${name}/objects/pack`)]
      .filter((file) => file.name.endsWith(".pack"));
    assert.deepEqual(packs, []);
  }
  await fsck(s.storeGitDir);
});

Deno.test("what a killed process left in staging is removed", async () => {
  const s = await stored();
  await using _ = s.dir;
  await Deno.mkdir(`${s.stagingDir}/0/objects/pack`, { recursive: true });
  await Deno.writeTextFile(`${s.stagingDir}/0/objects/pack/tmp_pack_left`, "half");
  await Deno.writeTextFile(`${s.stagingDir}/0/objects/pack/pack-${"a".repeat(40)}.pack`, "half");
  await Deno.writeTextFile(`${s.stagingDir}/0/shallow.lock`, "");
  await s.source.fetchBlobs([s.blobs[0] as Oid]);
  assert.ok(!packsIn(s.packDir).has(`pack-${"a".repeat(40)}`));
  await fsck(s.storeGitDir);
});

Deno.test("a remote that is gone: it fails, the store is as before, and works when it is back", async () => {
  const s = await stored();
  await using _ = s.dir;
  const before = packsIn(s.packDir);
  await Deno.rename(s.remote, `${s.remote}.away`);
  await assert.rejects(s.source.fetchBlobs([s.blobs[0] as Oid]));
  await assert.rejects(s.source.fetchCommit(s.commitOid));
  assert.deepEqual(packsIn(s.packDir), before);
  await Deno.rename(`${s.remote}.away`, s.remote);
  await s.source.fetchBlobs([s.blobs[0] as Oid]);
  assert.deepEqual(await s.present(s.blobs.slice(0, 2)), [true, false]);
});

Deno.test("progress is told, and an abort ends a fetch", async () => {
  const s = await stored();
  await using _ = s.dir;
  let progress = 0;
  await s.source.fetchBlobs(s.blobs.slice(0, 6), { onProgress: () => progress++ });
  assert.ok(progress > 0);
  const controller = new AbortController();
  controller.abort(new Error("not any more"));
  await assert.rejects(
    s.source.fetchBlobs(s.blobs.slice(6), { signal: controller.signal }),
    /not any more/,
  );
  assert.deepEqual(await s.present(s.blobs.slice(6)), new Array(FILES - 6).fill(false));
});

Deno.test("the refs, HEAD and shallow file of the store are not touched", async () => {
  const s = await stored();
  await using _ = s.dir;
  const state = async () => [
    (await git(["--git-dir", s.storeGitDir, "for-each-ref"])).stdout,
    await Deno.readTextFile(`${s.storeGitDir}/HEAD`),
    await Deno.readTextFile(`${s.storeGitDir}/shallow`).catch(() => null),
    await Deno.readTextFile(`${s.storeGitDir}/config`),
  ];
  const before = await state();
  await s.source.fetchBlobs(s.blobs.slice(0, 2));
  await s.source.fetchCommit(s.commitOid);
  assert.deepEqual(await state(), before);
});

Deno.test("many lost of many: few requests, each object is here, lost or left", async () => {
  const s = await stored();
  await using _ = s.dir;
  await using server = startGitServer({ root: s.dir.path });
  await writeStoreConfig(s.storeGitDir, {
    remoteUrl: server.url("remote"),
    objectFormat: "sha1",
    partial: true,
    credentials: [],
  });
  const gone = (i: number) => i.toString(16).padStart(40, "0") as Oid;
  const cases: [lost: number, of: readonly Oid[], requests: number][] = [
    [0, s.blobs, 1],
    // As many as that cost one more each, and everything else comes.
    [2, [gone(1), ...s.blobs.slice(0, 4), gone(2), ...s.blobs.slice(4, 6)], 3],
    // Lost after the first good one; all lost.
    [500, [s.blobs[8] as Oid, ...Array.from({ length: 500 }, (_, i) => gone(i + 10))], 15],
    [500, Array.from({ length: 500 }, (_, i) => gone(i + 1000)), 15],
  ];
  for (const [count, wanted, requests] of cases) {
    server.resetCounters();
    const { lost, left } = await s.source.fetchBlobs(wanted);
    assert.ok(server.counters().fetch <= requests, `${count}: ${server.counters().fetch} requests`);
    const here = await s.present(wanted);
    const came = wanted.filter((_, i) => here[i]);
    assert.deepEqual([...came, ...lost, ...left].sort(), wanted.toSorted());
    if (count <= 4) assert.equal(lost.length, count);
    if (s.blobs.includes(wanted[0] as Oid)) assert.ok(came.includes(wanted[0] as Oid));
  }
});
