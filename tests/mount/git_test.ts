/** Git in the mount: what it says, whose it is, what it fetches, and where the token is. */

import assert from "node:assert/strict";
import { parseIndex } from "../../src/git/index_file.ts";
import { byteString } from "../../src/path.ts";
import { makeOddRepo, makeSizedRepo } from "../support/repos.ts";
import { git, waitFor } from "../support/run.ts";
import { type Daemon, fixture, type Lab, mountTest, without } from "./harness.ts";

const LOGIN = { user: "tokenuser", password: "tok-3n4x5y6z7secret" };
const NOBODY = 65534;
const COMMITS = 12;

const sized = fixture(async (path) => {
  const repo = await makeSizedRepo(path, {
    files: 300,
    dirs: 40,
    blobBytes: 500,
    commits: COMMITS,
  });
  for (const [ref, at] of [["refs/heads/side", 3], ["refs/tags/v1", 5], ["refs/tags/v2", 9]]) {
    await git(["--git-dir", path, "update-ref", String(ref), repo.commitOids[Number(at)] ?? ""]);
  }
  return repo;
});
const odd = fixture((path) => makeOddRepo(path));

/** git in the mount, as the user. */
async function inMount(lab: Lab, mountPoint: string, ...args: string[]): Promise<string> {
  const result = await lab.sh('cd "$1"; shift; exec git "$@"', [mountPoint, ...args]);
  return result.stdout;
}

mountTest("git: the usual questions have the remote's answers", async (lab, t) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo");
  const server = lab.serve({ login: LOGIN });
  await lab.startDaemon();
  const mountPoint = await lab.mount(server.url("repo", LOGIN), "repo", "--wait=history");
  const ask = (...args: string[]) => inMount(lab, mountPoint, ...args);
  const remote = async (...args: string[]) =>
    (await git(["--git-dir", repo.gitDir, ...args])).stdout;

  assert.equal((await lab.statusOf("repo")).history, "full");
  await t.step("rev-parse", async () => {
    assert.equal(await ask("rev-parse", "HEAD"), `${repo.headOid}\n`);
    assert.equal(await ask("rev-parse", "--show-toplevel"), `${mountPoint}\n`);
    assert.equal(await ask("rev-parse", "--is-inside-work-tree"), "true\n");
    assert.equal(await ask("rev-parse", "--is-shallow-repository"), "false\n");
    assert.equal(await ask("rev-parse", "--abbrev-ref", "HEAD@{upstream}"), "origin/main\n");
  });
  await t.step("log", async () => {
    assert.equal(await ask("log", "--oneline"), await remote("log", "--oneline"));
    assert.equal(
      await ask("log", "--all", "--format=%H %T %an %s"),
      await remote("log", "--all", "--format=%H %T %an %s"),
    );
  });
  await t.step("branch and tag", async () => {
    assert.equal(await ask("branch"), "* main\n");
    assert.equal(
      await ask("branch", "-r"),
      "  origin/HEAD -> origin/main\n  origin/main\n  origin/side\n",
    );
    assert.equal(await ask("tag"), "v1\nv2\n");
    assert.equal(
      await ask("rev-parse", "origin/side", "v1"),
      `${repo.commitOids[3]}\n${repo.commitOids[5]}\n`,
    );
  });
  await t.step("remote -v has no credentials", async () => {
    const url = server.url("repo");
    // git itself adds the filter of a partial clone, in newer versions.
    const shown = (await ask("remote", "-v")).replace(" [blob:none]", "");
    assert.equal(shown, `origin\t${url} (fetch)\norigin\t${url} (push)\n`);
  });
  await t.step("show", async () => {
    const path = repo.samplePath;
    assert.equal(await ask("show", `HEAD:${path}`), await remote("show", `HEAD:${path}`));
    assert.equal(await ask("show", "--stat", "HEAD~3"), await remote("show", "--stat", "HEAD~3"));
    assert.equal(await ask("log", "-p", "-2"), await remote("log", "-p", "-2"));
  });
  await t.step("grep in a revision", async () => {
    const wanted = await remote("grep", "-c", "-e", "e", "HEAD~1", "--", "*.md");
    assert.equal(await ask("grep", "-c", "-e", "e", "HEAD~1", "--", "*.md"), wanted);
  });
  await t.step("status is clean, and diff is empty", async () => {
    assert.equal(
      await ask("status", "--porcelain=v2", "--branch"),
      [
        `# branch.oid ${repo.headOid}`,
        "# branch.head main",
        "# branch.upstream origin/main",
        "# branch.ab +0 -0",
        "",
      ].join("\n"),
    );
    assert.equal(await ask("diff", "HEAD"), "");
    assert.equal(await ask("ls-files", "--others"), "");
    assert.match(await ask("status"), /nothing to commit, working tree clean/);
  });
  await t.step("status sees what differs", async () => {
    const path = repo.samplePath;
    await ask("rm", "--cached", "--quiet", path);
    assert.equal(await ask("status", "--porcelain"), `D  ${path}\n?? ${path}\n`);
    await ask("reset", "--quiet");
    assert.equal(await ask("status", "--porcelain"), "");
  });
  await t.step("fsck", async () => {
    await ask("fsck", "--connectivity-only", "--no-dangling");
  });
});

mountTest("git: status is clean in a repository of everything odd", async (lab) => {
  const repo = await odd();
  await lab.share(repo.gitDir, "odd");
  await lab.startDaemon();
  const mountPoint = await lab.mount(lab.serve().url("odd"), "odd", "--wait=history");
  await lab.sh('ls -lR "$1" >/dev/null', [mountPoint]);
  assert.equal(await inMount(lab, mountPoint, "status", "--porcelain"), "");
  assert.equal(await inMount(lab, mountPoint, "tag"), "v0.9\nv1.0\nv1.0-tag\n");
  assert.equal(
    await inMount(lab, mountPoint, "log", "--oneline", "--all"),
    (await git(["--git-dir", repo.gitDir, "log", "--oneline", "--all"])).stdout,
  );
});

mountTest("git: the first index has what lstat says", async (lab) => {
  const repo = await odd();
  await lab.share(repo.gitDir, "odd");
  await lab.startDaemon();
  const mountPoint = await lab.mount(lab.serve().url("odd"), "odd");
  const indexPath = (await inMount(lab, mountPoint, "rev-parse", "--git-path", "index")).trim();
  const { entries } = parseIndex(await Deno.readFile(indexPath), "sha1");
  const format = "%i %U %G %T@ %C@ %P\\0";
  const command = `cd "$1"; find . ! -type d -printf '${format}' -o -empty -printf '${format}'`;
  const found = byteString((await lab.sh(command, [mountPoint])).stdoutBytes).split("\0");
  // Seconds have a fraction of zeros; the low 32 bits of an ino are in the index.
  const shown = new Map(
    found.filter((line) => line !== "").map((line) => {
      const [ino, uid, gid, mtime, ctime, ...path] = line.split(" ");
      return [path.join(" "), [Number(ino) % 2 ** 32, ...[uid, gid, mtime, ctime].map(Number)]];
    }),
  );
  assert(entries.length > 10_000);
  for (const { path, stat } of entries) {
    const { ino, uid, gid, mtimeSeconds, ctimeSeconds } = stat;
    assert.deepEqual([ino, uid, gid, mtimeSeconds, ctimeSeconds], shown.get(path), path);
  }
});

mountTest("git: the mount belongs to who --uid says", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo");
  const server = lab.serve({ login: LOGIN });
  await lab.startDaemon();
  const url = server.url("repo", LOGIN);
  const flags = ["--uid", String(NOBODY), "--gid", String(NOBODY), "--wait=history"];
  const mountPoint = await lab.mount(url, "repo", ...flags);
  await lab.compare(mountPoint, repo, { uid: NOBODY, gid: NOBODY });
  const as = async (uid: number, script: string) =>
    (await lab.sh(
      'cd "$2"; exec setpriv --reuid="$1" --regid="$1" --clear-groups env HOME=/nonexistent sh -euc "$3"',
      [String(uid), mountPoint, script],
    )).stdout;
  assert.equal(await as(NOBODY, "git status --porcelain"), "");
  assert.equal(await as(NOBODY, "git log --oneline | wc -l"), `${COMMITS}\n`);
  await as(NOBODY, "git fetch; git log -p >/dev/null; git update-index --refresh");
  // Another user reads, as everybody's files are readable.
  assert.equal(
    await as(1234, `cat ${repo.samplePath}`),
    await as(NOBODY, `git show HEAD:${repo.samplePath}`),
  );
  // Of the state root they see what they must and no more.
  for (
    const path of [
      "registry.sqlite",
      "control.sock",
      "credentials/*",
      "gitdirs/*/config",
      "stores/*/base.sqlite",
    ]
  ) {
    const { stdout } = await lab.sh(`ls -d ${lab.stateRoot}/${path}`);
    for (const file of stdout.trim().split("\n")) {
      const denied = await lab.sh(
        'setpriv --reuid=1234 --regid=1234 --clear-groups test -r "$1"',
        [file],
        { okCodes: "any" },
      );
      assert.notEqual(denied.code, 0, `${file} can be read by others`);
    }
  }
});

mountTest("git: --depth keeps the history shallow, without it all comes", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo", "deep");
  const server = lab.serve();
  await lab.startDaemon();
  const shallow = await lab.mount(server.url("repo"), "shallow", "--depth", "2");
  assert.equal((await lab.statusOf("shallow")).history, "shallow:2");
  assert.equal(await inMount(lab, shallow, "rev-list", "--count", "HEAD"), "2\n");
  assert.equal(await inMount(lab, shallow, "rev-parse", "--is-shallow-repository"), "true\n");
  assert.equal(await inMount(lab, shallow, "status", "--porcelain"), "");

  // The history waits for a server that is slow to answer; the tree does not.
  const mountPoint = await lab.mount(server.url("deep"), "deep");
  assert.equal(await inMount(lab, mountPoint, "status", "--porcelain"), "");
  await waitFor(async () => (await lab.statusOf("deep")).history === "full", "history");
  assert.equal(await inMount(lab, mountPoint, "rev-list", "--count", "HEAD"), `${COMMITS}\n`);
  const { ahead, behind } = await lab.statusOf("deep");
  assert.deepEqual([ahead, behind], [0, 0]);
  const line = (await lab.afs(["status", "--name", "deep"])).stdout;
  assert.match(line, /repo=deep state=mounted .* history=full/);
});

mountTest("git: while the history is fetched, status says so", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo");
  const server = lab.serve();
  await lab.startDaemon();
  // Asks once with a depth to mount, and then for the rest: that is held back.
  const hold = waitFor(() => server.counters().fetch >= 1, "first fetch", { pollMs: 1 })
    .then(() => server.set({ hang: true }));
  const mounting = lab.mount(server.url("repo"), "repo");
  await hold;
  const mountPoint = await Promise.race([
    mounting,
    // The first fetch itself may have been held back too.
    waitFor(() => server.counters().inflight > 0, "held request", { timeoutMs: 60_000 })
      .then(() => mounting),
  ]);
  const status = await lab.statusOf("repo");
  assert.deepEqual([status.history, status.ahead, status.behind], ["fetching", null, null]);
  const line = (await lab.afs(["status", "--name", "repo"])).stdout;
  assert.match(line, /ahead=unknown behind=unknown .*history=fetching/);
  assert.equal(await inMount(lab, mountPoint, "rev-list", "--count", "HEAD"), "1\n");
  server.set({ hang: false });
  await lab.afs(["mount", "--wait=history", server.url("repo"), mountPoint]);
  assert.equal(await inMount(lab, mountPoint, "rev-list", "--count", "HEAD"), `${COMMITS}\n`);
});

mountTest("git: a token is used later and is nowhere but in its file", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo");
  const server = lab.serve({ login: LOGIN });
  // This one leaves the connecting to git; the next one connects by itself.
  let daemon: Daemon = await lab.startDaemon({ under: ["env", "GIT_ALLOW_PROTOCOL=http"] });
  const seen: string[] = [];
  const mountPoint = await lab.mount(server.url("repo", LOGIN), "repo", "--wait=history");
  // The list of processes while a cold read hangs at the server shows every git there is.
  server.set({ hang: true });
  const held = lab.sh('cat "$1"', [`${mountPoint}/${repo.samplePath}`]);
  await waitFor(() => server.counters().inflight > 0, "held request");
  const processes = await lab.sh(
    'for pid in /proc/[0-9]*; do tr "\\0" " " <"$pid/cmdline"; tr "\\0" " " <"$pid/environ"; done 2>/dev/null || true',
  );
  assert.ok(processes.stdout.includes("fetch"), "no git was at work");
  seen.push(processes.stdout);
  server.set({ hang: false });
  await held;
  await inMount(lab, mountPoint, "fetch");
  await inMount(lab, mountPoint, "log", "-p", "-3");
  assert.equal(await daemon.stop(), 0);

  daemon = await lab.startDaemon();
  await lab.dropCaches();
  const before = server.counters().requests;
  const { stdout } = await lab.sh('cd "$1"; find . -type f -exec cat {} + | wc -c', [mountPoint]);
  assert.ok(Number(stdout) >= repo.totalBytes);
  assert.ok(server.counters().requests > before);
  await inMount(lab, mountPoint, "fetch");
  await inMount(lab, mountPoint, "log", "-p");
  await lab.compare(mountPoint, repo);
  await lab.afs(["status"]);
  await lab.afs(["status", "--json"]);
  await lab.afs(["list-repos"]);
  await inMount(lab, mountPoint, "remote", "-v");
  await inMount(lab, mountPoint, "config", "--list", "--show-origin");

  const secrets = [LOGIN.password, btoa(`${LOGIN.user}:${LOGIN.password}`)];
  for (const secret of secrets) {
    const found = await lab.sh('grep -rlFae "$1" "$2" || true', [secret, lab.stateRoot]);
    const files = found.stdout.trim().split("\n").filter((file) => file !== "");
    const expected = secret === LOGIN.password ? 1 : 0;
    assert.equal(files.length, expected, files.join(", "));
    for (const file of files) assert.match(file, /\/credentials\/[0-9a-f]+$/);
    for (const text of [...seen, lab.output]) assert.ok(!text.includes(secret), secret);
    const logs = await lab.sh('grep -lFe "$1" "$2"/*.log || true', [secret, lab.dir.path]);
    assert.equal(logs.stdout, "");
  }
});

mountTest("git: neither the daemon nor its git touches a path below a mount", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo");
  const server = lab.serve();
  const trace = lab.at("trace");
  const daemon = await lab.startDaemon({
    under: ["strace", "-f", "-qq", "-s", "4096", "-o", trace, "-e", "trace=%file,fchdir,execve"],
  });
  const mountPoint = await lab.mount(server.url("repo"), "repo", "--wait=history");
  await lab.sh('cd "$1"; find . -type f -exec cat {} + >/dev/null; git status; git fetch', [
    mountPoint,
  ]);
  await lab.statusOf("repo");
  await lab.afs(["mount", server.url("repo"), mountPoint]);
  await lab.afs(["remount", mountPoint]);
  await lab.sh('cat "$1"/*/* >/dev/null 2>&1 || true', [mountPoint]);
  await lab.afs(["unmount", mountPoint]);
  assert.equal(await daemon.stop(), 0);

  const lines = (await Deno.readTextFile(trace)).split("\n");
  const gits = new Set<string>();
  let mounted = false;
  const bad: string[] = [];
  for (const line of lines) {
    const [, pid = "", call = ""] = /^(\d+) +(.*)$/.exec(line) ?? [];
    if (/^execve\("[^"]*git[^"]*"/.test(call) && call.endsWith("= 0")) gits.add(pid);
    if (!call.includes(mountPoint)) continue;
    if (call.startsWith("mount(")) mounted = true;
    else if (call.startsWith("umount2(")) mounted = false;
    else if (mounted && !call.startsWith("execve(")) bad.push(line);
    else if (gits.has(pid)) bad.push(line);
  }
  assert.ok(gits.size > 5, `${gits.size} git processes`);
  assert.deepEqual(bad, []);
}, { skip: await without("strace") });
