import assert from "node:assert/strict";
import { Failure } from "../failure.ts";
import type { HostPath } from "../path.ts";
import { git, tempDir } from "../../tests/support/run.ts";
import { importObjects, type ImportOptions, readHeadTree, treeDifference } from "./import.ts";
import type { ObjectFormat, Oid } from "./oid.ts";
import { PackDirectory } from "./pack_directory.ts";
import { PackReader } from "./pack_reader.ts";
import { GitError } from "./process.ts";
import { createView } from "./view.ts";

/** A remote, a store of its trees, a user's git directory on that, and a view. */
async function ground(objectFormat: ObjectFormat = "sha1") {
  const dir = await tempDir();
  const [remote, store, user, view] = ["remote", "store", "user", "view"].map((name) =>
    dir.at(name)
  ) as [string, string, string, string];
  await git(["init", "-q", "-b", "main", `--object-format=${objectFormat}`, remote]);
  const inRemote = (...args: string[]) => git(["-C", remote, ...args]);
  await Deno.mkdir(`${remote}/dir`);
  await Deno.writeTextFile(`${remote}/dir/a`, "a\n");
  await Deno.writeTextFile(`${remote}/b`, "b\n");
  await inRemote("add", ".");
  await inRemote("commit", "-qm", "one");
  for (const key of ["allowFilter", "allowAnySHA1InWant"]) {
    await inRemote("config", `uploadpack.${key}`, "true");
  }
  const clone = ["clone", "-q", "--bare", "--filter=blob:none", `file://${remote}`];
  await git([...clone, store]);
  await git([...clone, user]);
  await git(["-C", user, "config", "core.bare", "false"]);
  const viewDir = view as HostPath;
  await createView(viewDir, { objectFormat, objectDirs: [`${store}/objects`] });
  const empty = dir.at("empty");
  await Deno.mkdir(empty);
  const options: ImportOptions = {
    dir: { gitDir: user, workTree: empty, owner: null },
    viewDir,
    storeGitDir: store as HostPath,
    objectFormat,
  };
  const inUser = async (args: readonly string[], stdin?: string) => {
    const input = stdin === undefined ? {} : { stdin: new TextEncoder().encode(stdin) };
    return (await git(["--git-dir", user, ...args], input)).stdout.trim() as Oid;
  };
  return {
    options,
    user,
    viewDir,
    inUser,
    blob: (text: string) => inUser(["hash-object", "-w", "--stdin"], text),
    tree: (text: string) => inUser(["mktree", "--missing"], text),
    base: await inUser(["rev-parse", "HEAD^{tree}"]),
    reader: () => new PackReader(new PackDirectory(`${viewDir}/objects/pack`), objectFormat),
    packs: () => [...Deno.readDirSync(`${viewDir}/objects/pack`)].map(({ name }) => name),
    [Symbol.asyncDispose]: () => dir.remove(),
  };
}

for (const format of ["sha1", "sha256"] as const) {
  Deno.test(`${format}: what only the user has comes, and what is promised does not`, async () => {
    await using g = await ground(format);
    const [oldDir] = (await g.inUser(["ls-tree", "HEAD", "dir"])).split("\t");
    const made = await g.blob("made here\n");
    const promised = (await g.inUser(["rev-parse", "HEAD:b"])) as Oid;
    const inner = await g.tree(`100644 blob ${made}\tx\n100644 blob ${promised}\ty\n`);
    const to = await g.tree(`${oldDir}\tdir\n040000 tree ${inner}\tnew\n`);
    const difference = await treeDifference(g.options, g.base, to);
    assert.deepEqual([...difference.treeOids].sort(), [to, inner].sort());
    assert.equal(difference.treeOids[0], to);
    assert.deepEqual([...difference.blobOids].sort(), [made, promised].sort());
    assert.equal(await importObjects(g.options, difference), 3);
    const reader = g.reader();
    assert.equal(new TextDecoder().decode(reader.read(made, "blob")), "made here\n");
    assert.ok(reader.read(inner, "tree") !== undefined && reader.read(to, "tree") !== undefined);
    assert.equal(reader.read(promised, "blob"), undefined);
    reader.close();
    assert.equal(await importObjects(g.options, difference), 0);
    assert.equal(g.packs().filter((name) => name.endsWith(".pack")).length, 1);
  });
}

Deno.test("an old tree that is gone there: everything of the new one is listed", async () => {
  await using g = await ground();
  const to = await g.tree(`100644 blob ${await g.blob("x")}\tx\n`);
  const { treeOids, blobOids } = await treeDifference(g.options, "d".repeat(40) as Oid, to);
  assert.deepEqual(treeOids, [to]);
  assert.equal(blobOids.length, 1);
});

Deno.test("HEAD: its commit and tree, or null", async () => {
  await using g = await ground();
  const { dir } = g.options;
  const head = await readHeadTree(g.options);
  assert.equal(head?.treeOid, g.base);
  assert.equal(head?.commitOid, await g.inUser(["rev-parse", "HEAD"]));
  assert.equal(await readHeadTree({ dir, objectFormat: "sha256" }), null);
  await g.inUser(["symbolic-ref", "HEAD", "refs/heads/none"]);
  assert.equal(await readHeadTree(g.options), null);
  await Deno.writeTextFile(`${g.user}/HEAD`, "nonsense");
  assert.equal(await readHeadTree(g.options), null);
});

Deno.test("a tree with more paths than memory has room for is as small as it is", async () => {
  await using g = await ground();
  let entry = `100644 blob ${await g.blob("x")}`;
  for (let level = 0; level < 12; level++) {
    const names = Array.from({ length: 12 }, (_, i) => `${entry}\tn${i}\n`);
    entry = `040000 tree ${await g.tree(names.join(""))}`;
  }
  const to = entry.split(" ")[2] as Oid;
  const { treeOids, blobOids } = await treeDifference(g.options, g.base, to);
  assert.deepEqual([treeOids.length, blobOids.length], [12, 1]);
});

Deno.test("what is no tree, or not there, is a failure", async () => {
  await using g = await ground();
  const blob = await g.blob("x");
  const inner = await g.tree(`100644 blob ${blob}\tx\n`);
  const to = await g.tree(`040000 tree ${inner}\td\n`);
  await assert.rejects(treeDifference(g.options, g.base, blob), Failure);
  await Deno.remove(`${g.user}/objects/${inner.slice(0, 2)}/${inner.slice(2)}`);
  await assert.rejects(treeDifference(g.options, g.base, to), Failure);
});

Deno.test("an object that lets git wait for ever is given up", async () => {
  await using g = await ground();
  const inner = await g.tree(`100644 blob ${await g.blob("x")}\tx\n`);
  const to = await g.tree(`040000 tree ${inner}\td\n`);
  const path = `${g.user}/objects/${inner.slice(0, 2)}/${inner.slice(2)}`;
  await Deno.remove(path);
  await new Deno.Command("mkfifo", { args: [path] }).output();
  const end = new AbortController();
  const waiting = treeDifference({ ...g.options, signal: end.signal }, g.base, to);
  end.abort(new Failure("failed", "enough"));
  await assert.rejects(waiting, /enough/);
});

Deno.test("an object that is not what its name says does not come", async () => {
  await using g = await ground();
  const good = await g.blob("good");
  const bad = await g.blob("bad");
  const path = (oid: string) => `${g.user}/objects/${oid.slice(0, 2)}/${oid.slice(2)}`;
  await Deno.remove(path(bad));
  await Deno.copyFile(path(good), path(bad));
  const to = await g.tree(`100644 blob ${bad}\tx\n`);
  const difference = await treeDifference(g.options, g.base, to);
  const outcome = await importObjects(g.options, difference).catch((error) => error);
  assert.ok(outcome instanceof GitError || typeof outcome === "number", String(outcome));
  const reader = g.reader();
  assert.equal(reader.read(bad, "blob"), undefined);
  reader.close();
});

Deno.test("what a git that failed, or was killed, has left does not stay", async () => {
  await using g = await ground();
  const good = await g.blob("good");
  // Half of it: git fails when it comes to it.
  const bad = await g.blob(crypto.getRandomValues(new Uint8Array(50_000)).toHex());
  const path = `${g.user}/objects/${bad.slice(0, 2)}/${bad.slice(2)}`;
  await Deno.chmod(path, 0o644);
  await Deno.truncate(path, 20_000);
  const to = await g.tree(`100644 blob ${good}\ta\n100644 blob ${bad}\tb\n`);
  const difference = await treeDifference(g.options, g.base, to);
  await assert.rejects(importObjects(g.options, difference), GitError);
  assert.deepEqual(g.packs(), []);
  await Deno.writeTextFile(`${g.viewDir}/objects/pack/tmp_pack_x`, "of a killed one");
  await importObjects(g.options, { treeOids: [], blobOids: [good] });
  assert.deepEqual(g.packs().filter((name) => name.startsWith("tmp_")), []);
});

Deno.test("small packs become one, and nothing is lost", async () => {
  await using g = await ground();
  const made: Oid[] = [];
  for (let i = 0; i < 20; i++) {
    made.push(await g.blob(`blob ${i}`));
    const to = await g.tree(made.map((oid, n) => `100644 blob ${oid}\tn${n}\n`).join(""));
    await importObjects(g.options, await treeDifference(g.options, g.base, to));
  }
  assert.ok(g.packs().filter((name) => name.endsWith(".pack")).length < 10, String(g.packs()));
  const reader = g.reader();
  for (const [i, oid] of made.entries()) {
    assert.equal(new TextDecoder().decode(reader.read(oid, "blob")), `blob ${i}`);
  }
  reader.close();
});

Deno.test("what only git finds there comes too: other alternates, indexes of another version", async () => {
  await using g = await ground();
  // A clone beside it that its owner has named as alternates.
  const beside = `${g.user}.beside`;
  await git(["init", "-q", "--bare", beside]);
  const hashed = { stdin: new TextEncoder().encode("beside\n") };
  const { stdout } = await git(["--git-dir", beside, "hash-object", "-w", "--stdin"], hashed);
  const borrowed = stdout.trim() as Oid;
  assert.equal(await importObjects(g.options, { treeOids: [], blobOids: [borrowed] }), 0);
  await Deno.writeTextFile(`${g.user}/objects/info/alternates`, `${beside}/objects\n`);
  assert.equal(await importObjects(g.options, { treeOids: [], blobOids: [borrowed] }), 1);
  await Deno.remove(`${g.user}/objects/info/alternates`);

  const old = await g.blob("in a pack with an old index\n");
  const args = ["pack-objects", "-q", "--index-version=1", `${g.user}/objects/pack/pack`];
  await g.inUser(args, `${old}\n`);
  await g.inUser(["prune-packed"]);
  assert.equal(await importObjects(g.options, { treeOids: [], blobOids: [old] }), 1);
  const reader = g.reader();
  for (const oid of [borrowed, old]) assert.ok(reader.read(oid, "blob") !== undefined);
  reader.close();
});
