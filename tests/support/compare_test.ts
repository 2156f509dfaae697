import assert from "node:assert/strict";
import { percentDecode, percentEncode, runCompare } from "./compare.ts";
import { makeHostileRepo, makeOddRepo, makeSizedRepo } from "./repos.ts";
import { git, run, tempDir } from "./run.ts";

for (const objectFormat of ["sha1", "sha256"] as const) {
  Deno.test(`compare: a checkout of the odd repository (${objectFormat}) is the same`, async () => {
    await using dir = await tempDir();
    const repo = await makeOddRepo(dir.at("odd.git"), { objectFormat });
    await git(["clone", "-q", repo.gitDir, dir.at("tree")]);
    const counts = { files: 0, links: 0, dirs: 0, gitlinks: 0 };
    for (const { mode } of repo.paths) {
      counts[
        mode === "40000"
          ? "dirs"
          : mode === "120000"
          ? "links"
          : mode === "160000"
          ? "gitlinks"
          : "files"
      ]++;
    }
    for (const order of ["tree", "readdir", "random:7"]) {
      const summary = await runCompare(dir.at("tree"), repo.gitDir, repo.headOid, {
        checkout: true,
        order,
        uid: Deno.uid() ?? 0,
        gid: Deno.gid() ?? 0,
      });
      assert.deepEqual(summary.differences, []);
      assert.equal(summary.files, counts.files);
      assert.equal(summary.links, counts.links);
      assert.equal(summary.gitlinks, counts.gitlinks);
      assert.equal(summary.dirs, counts.dirs - 1, "all but the empty tree");
      assert.ok(summary.bytes > 3 << 20);
    }
    const statOnly = await runCompare(dir.at("tree"), repo.gitDir, "main", {
      checkout: true,
      read: false,
    });
    assert.equal(statOnly.differenceCount, 0);
    assert.equal(statOnly.bytes, 0);
  });
}

Deno.test("compare: finds every kind of planted difference", async () => {
  await using dir = await tempDir();
  const repo = await makeSizedRepo(dir.at("r.git"), {
    files: 60,
    dirs: 10,
    blobBytes: 500,
    repack: false,
  });
  const tree = dir.at("tree");
  await git(["clone", "-q", repo.gitDir, tree]);
  const listed = await git(["-C", tree, "ls-files", "-s"]);
  const entries = listed.stdout.trim().split("\n").map((line) => line.split("\t"));
  const sizes = await Promise.all(
    entries.map(async ([, path]) => (await Deno.stat(`${tree}/${path}`)).size),
  );
  const plain = entries.filter(([stage], i) => stage?.startsWith("100644") && (sizes[i] ?? 0) > 20)
    .map(([, path]) => path ?? "");
  const compare = (options = {}) =>
    runCompare(tree, repo.gitDir, "main", { checkout: true, ...options });
  assert.equal((await compare()).differenceCount, 0);

  const cases: [what: string, plant: (path: string) => Promise<unknown>][] = [
    ["missing", (path) => Deno.remove(path)],
    ["mode", (path) => Deno.chmod(path, 0o755)],
    ["size", (path) => Deno.truncate(path, 3)],
    ["bytes", async (path) => {
      const bytes = await Deno.readFile(path);
      bytes[11] = (bytes[11] ?? 0) ^ 1;
      await Deno.writeFile(path, bytes);
    }],
    ["mode", async (path) => {
      await Deno.remove(path);
      await Deno.symlink("x", path);
    }],
    ["mode", async (path) => {
      await Deno.remove(path);
      await Deno.mkdir(path);
    }],
    ["unexpected", (path) => Deno.writeTextFile(path + ".new", "")],
    ["unexpected", (path) => Deno.mkdir(path + ".d")],
    ["nlink", (path) => Deno.link(path, dir.at("hard-link"))],
    ["st_ino", async (path) => {
      await Deno.remove(plain[0] ?? "");
      await Deno.link(path, plain[0] ?? "");
    }],
  ];
  for (const [index, [what, plant]] of cases.entries()) {
    const name = plain[index + 1] ?? "";
    plain[0] = `${tree}/${plain[cases.length + 2]}`;
    await plant(`${tree}/${name}`);
    for (const order of ["tree", "random:1"]) {
      const summary = await compare({ order });
      assert.ok(
        summary.differences.some((difference) =>
          difference.what === what &&
          (difference.path.startsWith(name) || what === "st_ino")
        ),
        `${what} not found: ${JSON.stringify(summary)}`,
      );
      if (what === "bytes") {
        assert.match(summary.differences[0]?.detail ?? "", /first wrong byte is 11/);
      }
    }
    await run("rm", ["-f", dir.at("hard-link")]);
    await git(["-C", tree, "clean", "-dfqx"]);
    await git(["-C", tree, "checkout", "-q", "--force", "HEAD", "--", "."]);
    await run("rm", ["-rf", `${tree}/${name}`, plain[0] ?? ""]);
    await git(["-C", tree, "checkout", "-q", "--force", "HEAD", "--", "."]);
    assert.equal((await compare()).differenceCount, 0, `${what} not undone`);
  }

  assert.ok((await compare({ uid: 12345 })).differences.every(({ what }) => what === "uid"));
  const strict = await compare({ checkout: false });
  assert.ok(strict.differences.some(({ path, what }) => path === ".git" && what === "mode"));
  const noGitfile = await compare({ noGitfile: true });
  assert.deepEqual(noGitfile.differences.map(({ path, what }) => [path, what]), [
    [".git", "unexpected"],
  ]);
  const ignored = plain[1] ?? "";
  await Deno.remove(`${tree}/${ignored}`);
  assert.equal((await compare()).differenceCount, 1);
  assert.equal((await compare({ ignore: [ignored] })).differenceCount, 0);
  for (let i = 0; i < 30; i++) await Deno.writeTextFile(`${tree}/extra-${i}`, "");
  const many = await compare();
  assert.equal(many.differenceCount, 31);
  assert.equal(many.differences.length, 20);
});

Deno.test("compare: the good paths of a hostile repository, by themselves", async () => {
  await using dir = await tempDir();
  const repo = await makeHostileRepo(dir.at("h.git"));
  for (const { path, mode, oid } of repo.good) {
    const full = dir.at("tree", path);
    if (mode === "40000") await Deno.mkdir(full, { recursive: true });
    else {
      await Deno.mkdir(full.slice(0, full.lastIndexOf("/")), { recursive: true });
      const { stdoutBytes } = await git(["-C", repo.gitDir, "cat-file", "blob", oid]);
      await Deno.writeFile(full, stdoutBytes, { mode: mode === "100755" ? 0o755 : 0o644 });
    }
  }
  const summary = await runCompare(dir.at("tree"), repo.gitDir, "main", {
    checkout: true,
    ignore: repo.bad,
  });
  assert.deepEqual(summary.differences, []);
  assert.equal(summary.files + summary.dirs, repo.good.length);
});

Deno.test("compare: percent form of byte strings", () => {
  const path = "a b/%\xff\n";
  assert.equal(percentEncode(path), "a%20b/%25%ff%0a");
  assert.equal(percentDecode(percentEncode(path)), path);
});
