import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { loadExpected } from "./compare.ts";
import { Random } from "./git_objects.ts";
import {
  bigBlobChunks,
  makeBigBlobRepo,
  makeEmptyRepo,
  makeEmptyTreeRepo,
  makeHostileRepo,
  makeOddRepo,
  makeSizedRepo,
  MANY_ENTRIES,
} from "./repos.ts";
import { git, tempDir } from "./run.ts";

const ODD_HEAD = "738fdcac55366e8a9e375ededafaa163bc989527";
const HOSTILE_HEAD = "b621b5951a2e954b88ce0d79402f477b90ab091d";

for (const objectFormat of ["sha1", "sha256"] as const) {
  Deno.test(`odd repository (${objectFormat}) is well-formed and has what it says`, async () => {
    await using dir = await tempDir();
    const repo = await makeOddRepo(dir.at("odd.git"), { objectFormat });
    if (objectFormat === "sha1") assert.equal(repo.headOid, ODD_HEAD);
    const fsck = await git(["-C", repo.gitDir, "fsck", "--full", "--strict", "--no-dangling"]);
    assert.equal(fsck.stdout + fsck.stderr, "");
    const head = await git(["-C", repo.gitDir, "rev-parse", "HEAD"]);
    assert.equal(head.stdout.trim(), repo.headOid);

    const expected = await loadExpected(repo.gitDir, repo.headOid);
    assert.deepEqual([...expected.keys()].sort(), repo.paths.map((entry) => entry.path).sort());
    for (const { path, oid } of repo.paths) {
      if (oid !== "") assert.equal(expected.get(path)?.oid, oid);
    }
    for (const path of Object.values(repo.odd)) assert.ok(expected.has(path), path);
    assert.equal(expected.get(repo.odd.gitlink)?.kind, "gitlink");
    assert.equal(expected.get(repo.odd.emptyTree)?.kind, "dir");
    assert.equal(expected.get(repo.odd.executable)?.kind, "executable");
    assert.equal(expected.get(repo.odd.linkNotUtf8)?.kind, "link");
    assert.equal(expected.get(repo.odd.big)?.size, 3 << 20);
    const many = [...expected.keys()].filter((path) => path.startsWith("many/"));
    assert.equal(many.length, MANY_ENTRIES);
    assert.ok(Math.max(...[...expected.keys()].map((path) => path.length)) > 3700);

    const refs = await git([
      "-C",
      repo.gitDir,
      "for-each-ref",
      "--format=%(refname) %(objectname)",
    ]);
    assert.deepEqual(
      Object.fromEntries(refs.stdout.trim().split("\n").map((line) => line.split(" "))),
      repo.refs,
    );
    const parents = await git(["-C", repo.gitDir, "rev-list", "--merges", "--count", "main"]);
    assert.equal(parents.stdout.trim(), "1");
  });
}

Deno.test("hostile repository holds good and bad entries", async () => {
  await using dir = await tempDir();
  const repo = await makeHostileRepo(dir.at("hostile.git"));
  assert.equal(repo.headOid, HOSTILE_HEAD);
  const expected = await loadExpected(repo.gitDir, repo.headOid);
  for (const { path, mode, oid } of repo.good) {
    const found = expected.get(path);
    assert.ok(found !== undefined, path);
    if (oid !== "") assert.equal(found.oid, oid);
    assert.equal(found.kind, { "100644": "file", "100755": "executable", "40000": "dir" }[mode]);
  }
  for (const path of repo.bad) assert.ok(expected.has(path), `git does not list ${path}`);
  // Nothing but what is named good or bad.
  for (const path of expected.keys()) {
    const known = repo.good.some((good) => good.path === path) ||
      repo.bad.some((bad) => path === bad || path.startsWith(bad + "/"));
    assert.ok(known, path);
  }
  const fsck = await git(["-C", repo.gitDir, "fsck"], { okCodes: "any" });
  for (
    const what of ["hasDotgit", "hasDotdot", "hasDot:", "fullPathname", "treeNotSorted"].concat(
      "duplicateEntries",
      "badFilemode",
    )
  ) assert.match(fsck.stderr, new RegExp(what));
  const nameless = await makeHostileRepo(dir.at("nameless.git"), { emptyName: true });
  await assert.rejects(loadExpected(nameless.gitDir, nameless.headOid), /empty filename/);
});

Deno.test("sized repository has the size asked for and the same oids every time", async () => {
  await using dir = await tempDir();
  const options = { files: 600, dirs: 150, blobBytes: 3000, commits: 5 };
  const repo = await makeSizedRepo(dir.at("a.git"), options);
  const again = await makeSizedRepo(dir.at("b.git"), { ...options, repack: false });
  const other = await makeSizedRepo(dir.at("c.git"), { ...options, seed: 2, repack: false });
  assert.equal(again.headOid, repo.headOid);
  assert.notEqual(other.headOid, repo.headOid);
  const expected = [...(await loadExpected(repo.gitDir, repo.headOid)).values()];
  const files = expected.filter((entry) => entry.kind === "file" || entry.kind === "executable");
  const bytes = files.reduce((sum, entry) => sum + entry.size, 0);
  assert.equal(files.length, 600);
  assert.equal(expected.filter((entry) => entry.kind === "dir").length, 150);
  assert.equal(repo.dirCount, 150);
  assert.equal(bytes, repo.totalBytes);
  assert.ok(bytes > 600 * 2000 && bytes < 600 * 4500, `${bytes} bytes`);
  const fsck = await git(["-C", repo.gitDir, "fsck", "--full", "--strict"]);
  assert.equal(fsck.stdout + fsck.stderr, "");
  const log = await git(["-C", repo.gitDir, "rev-list", "--reverse", "main"]);
  assert.deepEqual(log.stdout.trim().split("\n"), repo.commitOids);
  await assert.rejects(makeSizedRepo(dir.at("d"), { files: 1, dirs: 2, blobBytes: 1 }), RangeError);
});

Deno.test("big blob repository has the bytes it says", async () => {
  await using dir = await tempDir();
  const size = (24 << 20) + 12_345;
  const repo = await makeBigBlobRepo(dir.at("big.git"), size);
  const fsck = await git(["-C", repo.gitDir, "fsck", "--full", "--strict"]);
  assert.equal(fsck.stdout + fsck.stderr, "");
  const { stdoutBytes } = await git(["-C", repo.gitDir, "cat-file", "blob", "main:big.bin"]);
  assert.equal(stdoutBytes.length, size);
  assert.equal(createHash("sha256").update(stdoutBytes).digest("hex"), repo.sha256);
  const hash = createHash("sha256");
  for (const chunk of bigBlobChunks(size)) hash.update(chunk);
  assert.equal(hash.digest("hex"), repo.sha256);
  const small = await git(["-C", repo.gitDir, "ls-tree", "-r", "--name-only", "main", "small/"]);
  assert.equal(small.stdout.trim().split("\n").length, 5);
  for (const odd of [0, 1, 65535, 65536]) {
    const tiny = await makeBigBlobRepo(dir.at(`${odd}.git`), odd);
    await git(["-C", tiny.gitDir, "fsck", "--strict"]);
  }
});

Deno.test("empty repositories", async () => {
  await using dir = await tempDir();
  for (const objectFormat of ["sha1", "sha256"] as const) {
    const { gitDir } = await makeEmptyRepo(dir.at(`none-${objectFormat}.git`), { objectFormat });
    const head = await git(["-C", gitDir, "rev-parse", "-q", "--verify", "HEAD"], { okCodes: [1] });
    assert.equal(head.stdout, "");
    const empty = await makeEmptyTreeRepo(dir.at(`tree-${objectFormat}.git`), { objectFormat });
    assert.equal((await loadExpected(empty.gitDir, empty.headOid)).size, 0);
    await git(["-C", empty.gitDir, "fsck", "--strict"]);
  }
});

Deno.test("Random is the same everywhere, whole or in pieces", () => {
  const random = new Random(42);
  const words = [random.next32(), random.next32()];
  const bytes = new Random(42).bytes(8);
  assert.deepEqual([...new Uint32Array(bytes.buffer)], words);
  assert.equal(new TextDecoder().decode(new Random(1).text(30)).length, 30);
  assert.equal(new Random(1).text(0).length, 0);
});
