import assert from "node:assert/strict";
import { git, run, tempDir } from "../../tests/support/run.ts";
import type { Oid } from "./oid.ts";
import { UserObjects } from "./user_objects.ts";

const UID = Deno.uid() ?? 0;

/** A git directory as its user's git makes it. */
async function ground(format: "sha1" | "sha256" = "sha1") {
  const dir = await tempDir();
  const gitDir = dir.at("user");
  await git(["init", "-q", "--bare", `--object-format=${format}`, gitDir]);
  await git(["--git-dir", gitDir, "config", "gc.auto", "0"]);
  const objects = new UserObjects({ gitDir, uid: UID, objectFormat: format });
  const inGit = async (args: readonly string[], stdin?: string) => {
    const input = stdin === undefined ? {} : { stdin: new TextEncoder().encode(stdin) };
    return (await git(["--git-dir", gitDir, ...args], input)).stdout.trim() as Oid;
  };
  const has = (oid: Oid) => objects.present([oid]).length === 1;
  const text = (oid: Oid) => {
    const bytes = objects.read(oid);
    return bytes === undefined ? undefined : new TextDecoder().decode(bytes);
  };
  const packDir = `${gitDir}/objects/pack`;
  return {
    dir,
    gitDir,
    packDir,
    objects,
    has,
    text,
    inGit,
    blob: (content: string) => inGit(["hash-object", "-w", "--stdin"], content),
    loose: (oid: Oid) => `${gitDir}/objects/${oid.slice(0, 2)}/${oid.slice(2)}`,
    /** What is loose and named becomes a pack, and goes. */
    pack: async (...oids: Oid[]) => {
      const name = await inGit(["pack-objects", "-q", `${packDir}/pack`], `${oids.join("\n")}\n`);
      await inGit(["prune-packed"]);
      return `${packDir}/pack-${name}`;
    },
    async [Symbol.asyncDispose]() {
      objects.close();
      await dir.remove();
    },
  };
}

for (const format of ["sha1", "sha256"] as const) {
  Deno.test(`${format}: loose and packed blobs, those that come later too`, async () => {
    await using g = await ground(format);
    const absent = "ab".repeat(format === "sha1" ? 20 : 32) as Oid;
    assert.deepEqual([g.text(absent), g.has(absent)], [undefined, false]);
    const first = await g.blob("first\n");
    assert.deepEqual([g.text(first), g.has(first)], ["first\n", true]);
    const tree = await g.inGit(["mktree"], `100644 blob ${first}\tf\n`);
    assert.equal(g.text(tree), undefined);
    await g.pack(first, tree);
    assert.deepEqual([g.text(first), g.text(tree)], ["first\n", undefined]);
    for (const content of ["second\n", "third\n", ""]) {
      const oid = await g.blob(content);
      await g.pack(oid);
      assert.deepEqual([g.text(oid), g.has(oid)], [content, true]);
    }
  });
}

Deno.test("gc while it is read: what was there is read, and what is gone is gone", async () => {
  await using g = await ground();
  const [kept, gone] = [await g.blob("kept\n"), await g.blob("gone\n")];
  await g.pack(kept);
  await g.pack(gone);
  assert.deepEqual([g.text(kept), g.text(gone)], ["kept\n", "gone\n"]);
  const tree = await g.inGit(["mktree"], `100644 blob ${kept}\tf\n`);
  const commit = await g.inGit([
    "-c",
    "user.name=A",
    "-c",
    "user.email=a@example.com",
    "commit-tree",
    "-m",
    "x",
    tree,
  ]);
  await g.inGit(["update-ref", "refs/heads/x", commit]);
  await g.inGit(["repack", "-adq"]);
  await g.inGit(["prune", "--expire=now"]);
  assert.deepEqual([g.text(kept), g.text(gone)], ["kept\n", undefined]);
});

Deno.test("what is damaged or lies is not given out", async () => {
  await using g = await ground();
  const [good, other] = [await g.blob("good\n"), await g.blob("other\n")];
  // Another object's bytes under this name, cut short, not compressed, a directory.
  const path = g.loose(good);
  const bytes = await Deno.readFile(path);
  await Deno.remove(path);
  for (const lie of [await Deno.readFile(g.loose(other)), bytes.subarray(0, 8), bytes.fill(7)]) {
    await Deno.writeFile(path, lie);
    assert.equal(g.text(good), undefined);
    await Deno.remove(path);
  }
  await Deno.mkdir(path);
  assert.equal(g.text(good), undefined);
  await Deno.remove(path);

  assert.equal(await g.blob("good\n"), good);
  const pack = await g.pack(good, other);
  const whole = await Deno.readFile(`${pack}.pack`);
  await Deno.chmod(`${pack}.pack`, 0o600);
  for (let at = 0; at < whole.length; at++) {
    const damaged = whole.slice();
    damaged[at] = (damaged[at] as number) ^ 0x55;
    await Deno.writeFile(`${pack}.pack`, damaged);
    // Another byte may be one that nobody looks at.
    assert.ok([undefined, "good\n"].includes(g.text(good)), `byte ${at}`);
  }
  await Deno.writeFile(`${pack}.pack`, whole);
  const index = await Deno.readFile(`${pack}.idx`);
  await Deno.chmod(`${pack}.idx`, 0o600);
  for (let at = 0; at < index.length; at += 3) {
    const damaged = index.slice();
    damaged[at] = (damaged[at] as number) ^ 0xff;
    await Deno.remove(`${pack}.idx`);
    await Deno.writeFile(`${pack}.idx`, damaged);
    assert.ok([undefined, "good\n"].includes(g.text(good)), `byte ${at} of the index`);
  }
  await Deno.truncate(`${pack}.pack`, 20);
  assert.equal(g.text(good), undefined);
});

Deno.test("no name leads elsewhere, and nothing waits", async () => {
  await using g = await ground();
  await using elsewhere = await ground();
  const secret = await elsewhere.blob("not the owner's\n");
  const pack = await elsewhere.pack(secret);
  const none = (what: string) => assert.equal(g.text(secret), undefined, what);
  // By links of files.
  for (const suffix of ["pack", "idx"]) {
    await Deno.symlink(`${pack}.${suffix}`, `${g.packDir}/${pack.split("/").at(-1)}.${suffix}`);
  }
  none("links of a pack");
  assert.equal(g.objects.isWhole(""), false);
  for (const { name } of [...Deno.readDirSync(g.packDir)]) {
    await Deno.remove(`${g.packDir}/${name}`);
  }
  assert.equal(g.objects.isWhole(""), true);
  // By links of folders.
  await Deno.remove(g.packDir);
  await Deno.symlink(elsewhere.packDir, g.packDir);
  none("a link of the folder");
  await Deno.remove(g.packDir);
  none("no folder");
  await Deno.mkdir(g.packDir);
  // By alternates, which are said to be there and not followed.
  await Deno.writeTextFile(`${g.gitDir}/objects/info/alternates`, `${elsewhere.gitDir}/objects\n`);
  none("alternates");
  assert.equal(g.objects.isWhole(`${elsewhere.gitDir}/objects\n`), true);
  assert.equal(g.objects.isWhole("/another\n"), false);
  // A FIFO would wait for its writer.
  await Deno.mkdir(`${g.gitDir}/objects/${secret.slice(0, 2)}`, { recursive: true });
  await run("mkfifo", [g.loose(secret), `${g.packDir}/pack-${"a".repeat(40)}.idx`]);
  none("FIFOs");
  assert.equal(g.objects.isWhole(`${elsewhere.gitDir}/objects\n`), false);
  // The same file again, of somebody else.
  if (UID === 0) {
    await Deno.remove(g.loose(secret));
    const [loose] = [await g.blob("theirs\n")];
    assert.equal(g.text(loose), "theirs\n");
    await Deno.chown(g.loose(loose), 12345, 12345);
    assert.equal(g.text(loose), undefined);
  }
});

Deno.test("another file system in it is not entered", {
  ignore: UID !== 0,
}, async () => {
  await using g = await ground();
  const oid = await g.blob("here\n");
  await g.pack(oid);
  assert.equal(g.text(oid), "here\n");
  await using other = await tempDir();
  await run("cp", ["-a", `${g.packDir}/.`, other.path]);
  await run("mount", ["--bind", other.path, g.packDir]);
  try {
    assert.equal(g.text(oid), undefined);
  } finally {
    await run("umount", [g.packDir]);
  }
  assert.equal(g.text(oid), "here\n");
});

Deno.test("many packs: those that came last", async () => {
  await using g = await ground();
  const oids: Oid[] = [];
  for (let i = 0; i < 70; i++) {
    const oid = await g.blob(`${i}\n`);
    const pack = await g.pack(oid);
    await Deno.utime(`${pack}.idx`, 1_000_000 + i, 1_000_000 + i);
    oids.push(oid);
  }
  assert.equal(g.text(oids[69]!), "69\n");
  assert.equal(g.text(oids[0]!), undefined);
  assert.equal(g.objects.isWhole(""), false);
});
