/**
 * Every path of a mounted repository against `git ls-tree` and `git cat-file`: kinds, modes, sizes,
 * bytes, links, listings, before hydration and after, over every kind of remote.
 */

import assert from "node:assert/strict";
import { makeEmptyTreeRepo, makeHostileRepo, makeOddRepo, MANY_ENTRIES } from "../support/repos.ts";
import { fromBytes } from "../support/raw_fs.ts";
import { git, run } from "../support/run.ts";
import { allowFilter, fixture, type Lab, mountTest } from "./harness.ts";

const LOGIN = { user: "mounty", password: "s3cret-pass:wörd" };

const odd = fixture(async (path) => {
  const repo = await makeOddRepo(path);
  await allowFilter(path);
  return repo;
});
const odd256 = fixture((path) => makeOddRepo(path, { objectFormat: "sha256" }));
const hostile = fixture((path) => makeHostileRepo(path));

type Repo = { gitDir: string; headOid: string };

/** Sizes first, with nothing read; then bytes; then both again, of what is here now. */
async function compareThrice(lab: Lab, url: string, repo: Repo): Promise<void> {
  const mountPoint = await mountAlone(lab, url);
  await lab.compare(mountPoint, repo, { read: false, uid: 0, gid: 0 });
  await lab.compare(mountPoint, repo);
  await lab.dropCaches();
  await lab.compare(mountPoint, repo, { order: "random:1", chunkBytes: 5000 });
}

async function mountAlone(lab: Lab, url: string): Promise<string> {
  await lab.startDaemon();
  return await lab.mount(url, "tree");
}

mountTest("content: odd repository over file://", async (lab) => {
  const repo = await odd();
  await compareThrice(lab, `file://${repo.gitDir}`, repo);
});

mountTest("content: odd repository over http, read before anything else", async (lab) => {
  const repo = await odd();
  await lab.share(repo.gitDir, "odd");
  const mountPoint = await mountAlone(lab, lab.serve().url("odd"));
  // The order of the listing: a file is opened and read when nothing of it is known.
  const summary = await lab.compare(mountPoint, repo, { order: "readdir" });
  assert.ok(summary.files > MANY_ENTRIES);
});

mountTest("content: odd repository with sha256 names over http", async (lab) => {
  const repo = await odd256();
  await lab.share(repo.gitDir, "odd256");
  await lab.compare(await mountAlone(lab, lab.serve().url("odd256")), repo, { order: "random:2" });
});

mountTest("content: odd repository from a server without filters", async (lab) => {
  const repo = await odd();
  await lab.share(repo.gitDir, "odd");
  await compareThrice(lab, lab.serve({ filter: false }).url("odd"), repo);
});

mountTest("content: odd repository from a server that wants a login", async (lab) => {
  const repo = await odd();
  await lab.share(repo.gitDir, "odd");
  await lab.compare(await mountAlone(lab, lab.serve({ login: LOGIN }).url("odd", LOGIN)), repo);
});

mountTest("content: odd repository from a server of protocol version 0", async (lab) => {
  const repo = await odd();
  await lab.share(repo.gitDir, "odd");
  await lab.compare(await mountAlone(lab, lab.serve({ protocolV2: false }).url("odd")), repo);
});

mountTest("content: what is odd, by ordinary tools", async (lab) => {
  const repo = await odd();
  await lab.share(repo.gitDir, "odd");
  await lab.startDaemon();
  const mountPoint = await lab.mount(lab.serve().url("odd"), "tree");
  const sh = async (script: string) => (await lab.sh(script, [], { cwd: mountPoint })).stdout;
  assert.equal(await sh("ls -f many | wc -l"), `${MANY_ENTRIES + 2}\n`);
  assert.equal(await sh("ls many | sort -u | wc -l"), `${MANY_ENTRIES}\n`);
  assert.equal(await sh("find . -name file -path '*/d198/d199/*' -exec cat {} +"), "deepFile\n");
  assert.equal(await sh("for i in $(seq 0 199); do cd -P d$i; done; cat file"), "deepFile\n");
  assert.equal(await sh("cat case/readme case/README; ls case/ReadMe"), "lower\nupper\nfile\n");
  assert.equal(await sh("./bin/run.sh"), "odd\n");
  assert.equal(await sh("cat links/to-file links/to-dir/main.txt"), "# odd\nfeature\n");
  assert.equal(await sh("cat links/long"), "# odd\n");
  assert.equal(
    await sh("ls -a modules/sub empty/tree | tr '\\n' ' '"),
    "empty/tree: . ..  modules/sub: . .. ",
  );
  assert.equal(await sh("test -s empty/file || stat -c '%s %b' empty/file"), "0 0\n");
  assert.equal(
    await sh("cat links/dangling 2>&1 || true"),
    "cat: links/dangling: No such file or directory\n",
  );
  assert.match(await sh("cat links/loop 2>&1 || true"), /Too many levels of symbolic links/);
  assert.match(await sh("cat .git"), /^gitdir: \/.*\n$/);
});

mountTest(
  "content: a hostile repository is hidden where it is bad and right beside it",
  async (lab) => {
    const repo = await hostile();
    await lab.share(repo.gitDir, "hostile");
    await lab.startDaemon();
    const mountPoint = await lab.mount(lab.serve().url("hostile"), "tree");
    await Deno.mkdir(lab.at("out"));
    // Whatever is there is listed, looked at and read.
    await lab.sh(
      'cd "$1"; find . -print0 >"$2/listing"; find . -type f -exec cat {} + >/dev/null; ls -lR >/dev/null 2>&1 || true',
      [mountPoint, lab.at("out")],
    );
    const listing = fromBytes(await Deno.readFile(lab.at("out", "listing"))).split("\0")
      .map((path) => path.slice(2)).filter((path) => path !== "");
    const listed = new Set(listing);
    assert.equal(listed.size, listing.length, "a path is listed twice");
    const bad = new Set(repo.bad);
    const good = new Set(repo.good.map(({ path }) => path));
    for (const path of good) assert.ok(listed.has(path), `${path} is not listed`);
    for (const path of listed) {
      const known = path === ".git" || good.has(path) || bad.has(path) ||
        repo.bad.some((each) => path.startsWith(`${each}/`));
      assert.ok(known, `${path} is neither good nor bad`);
      const name = path.slice(path.lastIndexOf("/") + 1);
      assert.ok(path === ".git" || !["", ".", "..", ".git"].includes(name), `${path} is listed`);
      assert.ok(name.length <= 255, `${path} is too long`);
    }
    // The gitfile at the root is ours, whatever the tree has there.
    assert.match((await lab.sh("cat .git", [], { cwd: mountPoint })).stdout, /^gitdir: \//);
    const files = repo.good.filter(({ oid }) => oid !== "");
    const { stdout } = await run("bash", [
      "-euc",
      `cd "$1"; while IFS= read -r -d '' path; do
       { printf 'blob %s\\0' "$(stat -c %s "$path")"; cat "$path"; } | sha1sum | cut -c1-40
       stat -c %a "$path"; done`,
      "bash",
      mountPoint,
    ], { stdin: files.map(({ path }) => `${path}\0`).join("") });
    assert.deepEqual(
      stdout.trim().split("\n"),
      files.flatMap(({ oid, mode }) => [oid, mode.slice(3)]),
    );
    // Nothing outside has been touched, and git inside is not led astray.
    const { stdout: top } = await lab.sh("git rev-parse --show-toplevel", [], { cwd: mountPoint });
    assert.equal(top.trim(), mountPoint);
    const inside = await lab.sh("git rev-parse --show-toplevel", [], {
      cwd: `${mountPoint}/dotgit-dir`,
    });
    assert.equal(inside.stdout.trim(), mountPoint);
  },
);

mountTest("content: the commit of an empty tree", async (lab) => {
  const gitDir = lab.at("empty.git");
  const repo = await makeEmptyTreeRepo(gitDir);
  await lab.share(gitDir, "empty");
  await lab.startDaemon();
  const mountPoint = await lab.mount(lab.serve().url("empty"), "tree");
  await lab.compare(mountPoint, repo);
  const { stdout } = await lab.sh("ls -A; git status --short; git log --oneline", [], {
    cwd: mountPoint,
  });
  assert.equal(stdout, `.git\n${repo.headOid.slice(0, 7)} nothing\n`);
});

mountTest("content: another branch, and a tag", async (lab) => {
  const repo = await odd();
  await lab.share(repo.gitDir, "odd");
  const url = lab.serve().url("odd");
  await lab.startDaemon();
  const release = await lab.mount(url, "release", "--branch", "release/1.0");
  await lab.compare(release, { ...repo, headOid: repo.refs["refs/heads/release/1.0"] ?? "" });
  const tag = await lab.mount(url, "tag", "--branch", "v1.0");
  await lab.compare(tag, { ...repo, headOid: repo.refs["refs/heads/release/1.0"] ?? "" });
});

const e2eUrl = Deno.env.get("AFS_E2E_REPO");
const e2eOn = Deno.env.get("AFS_RUN_E2E_TESTS") === "1";

mountTest("content: the repository of AFS_E2E_REPO", async (lab) => {
  const url = e2eUrl ?? "";
  await lab.startDaemon();
  const clone = lab.at("clone.git");
  await git(["clone", "--quiet", "--bare", "--depth=1", url, clone], { timeoutMs: 900_000 });
  const headOid = (await git(["--git-dir", clone, "rev-parse", "HEAD"])).stdout.trim();
  const repo = { gitDir: clone, headOid };
  const mountPoint = await lab.mount(url, "tree");
  await lab.compare(mountPoint, repo, { read: false });
  await lab.compare(mountPoint, repo);
  await lab.dropCaches();
  await lab.compare(mountPoint, repo, { order: "random:1" });
}, {
  skip: !e2eOn
    ? "AFS_RUN_E2E_TESTS is not 1"
    : e2eUrl === undefined
    ? "AFS_E2E_REPO is not set"
    : null,
});
