/** Every verb of the compiled binary on real mounts. */

import assert from "node:assert/strict";
import { startGitServer } from "../support/git_server.ts";
import { git, run, waitFor } from "../support/run.ts";
import { cliTest, fieldsOf, makeRepo, namesIn } from "./cli_harness.ts";

/** Content of a file in a mount, read by another process. */
async function cat(path: string): Promise<string> {
  return (await run("cat", ["--", path])).stdout;
}

cliTest("mount, status, list-repos, unmount, mount again, remove", async (afs) => {
  const commits = await makeRepo(afs.at("srv", "repo.git"));
  await using server = startGitServer({ root: afs.at("srv") });
  const url = server.url("repo.git");
  // Relative, and named after the repository, as git clone does.
  const mounted = await afs.ok(["mount", url]);
  const fields = fieldsOf(mounted.stdout);
  const mountPoint = afs.at("repo");
  assert.deepEqual({ ...fields, history: "" }, {
    repo: "repo",
    state: "mounted",
    mount: mountPoint,
    head: commits.at(-1),
    ref: "main",
    history: "",
  });
  assert.match(fields["history"] ?? "", /^(fetching|full)$/);
  assert.match(mounted.stderr, /^afs: Fetching/m);
  assert.ok(!mounted.stderr.includes("\r") && !mounted.stderr.includes("\x1b"));
  assert.equal(await cat(`${mountPoint}/file.txt`), "content 3\n");
  assert.match((await afs.ok(["mount", url, "--wait=history"])).stdout, /history=full/);
  const log = await git(["-C", mountPoint, "rev-list", "HEAD"]);
  assert.deepEqual(log.stdout.trim().split("\n").reverse(), commits);

  const status = fieldsOf((await afs.ok(["status"])).stdout);
  assert.match(status["last_fetch"] ?? "", /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.deepEqual({ ...status, last_fetch: "", hydrated_blobs: "", hydrated_bytes: "" }, {
    repo: "repo",
    state: "mounted",
    head: commits.at(-1),
    ref: "main",
    source_ref: "refs/heads/main",
    required_commit: "none",
    acquisition: "not_required",
    base_commit: commits.at(-1),
    ahead: "0",
    behind: "0",
    diverged: "false",
    last_fetch: "",
    result: "ok",
    prepare_error: "none",
    hydrated_blobs: "",
    hydrated_bytes: "",
    overlay_dirty: "false",
    history: "full",
    remote_refresh: "30s",
  });
  const json = await afs.json(["status", `${mountPoint}/dir`]);
  assert.equal(json.repos[0].ref, "refs/heads/main");
  assert.equal(json.repos[0].remote, url);
  const list = fieldsOf((await afs.ok(["list-repos"])).stdout);
  assert.equal(list["mount"], mountPoint);

  await afs.ok(["unmount", "repo"]);
  assert.deepEqual(await afs.mounts(), []);
  assert.equal((await afs.json(["status"])).repos[0].state, "unmounted");
  await afs.fails(["unmount", "repo"], 5, /not mounted/);

  // The remote moves on; the base stays, and nothing is asked of the server.
  await git(["-C", afs.at("srv", "repo.git"), "update-ref", "refs/heads/main", commits[0] ?? ""]);
  server.resetCounters();
  const again = await afs.json(["mount", url, mountPoint]);
  assert.deepEqual([again.acquired, again.head, again.repo], [false, commits.at(-1), "repo"]);
  assert.equal(server.counters().requests, 0);
  await afs.ok(["remount", "--name", "repo"]);
  assert.equal(await cat(`${mountPoint}/file.txt`), "content 3\n");

  const dry = await afs.json(["remove-repo", "--name", "repo", "--dry-run"]);
  assert.deepEqual([dry.removed, dry.onlyHere], [false, []]);
  await afs.ok(["remove-repo", "--name", "repo"]);
  await assert.rejects(Deno.stat(mountPoint), Deno.errors.NotFound);
  await afs.endDaemon();
  await afs.assertNothingLeft();
});

cliTest("one store for a second work tree; a taken directory or name is refused", async (afs) => {
  await makeRepo(afs.at("repo.git"));
  await makeRepo(afs.at("other.git"));
  await afs.ok(["mount", afs.at("repo.git"), "a"]);
  await afs.ok(["mount", "repo.git", "sub/a"]);
  const { repos } = await afs.json(["list-repos"]);
  assert.deepEqual(repos.map((repo: { repo: string }) => repo.repo), ["a", "a-2"]);
  assert.equal(
    (await namesIn(afs.at("state", "stores"))).filter((n) => !n.includes(".")).length,
    1,
  );
  await afs.fails(["mount", afs.at("other.git"), "a"], 6, /"a" of file:.* is registered there/);
  await afs.fails(["mount", afs.at("repo.git"), "a", "--branch", "feature"], 6, /default branch/);
  await afs.fails(["mount", afs.at("repo.git"), "a/dir"], 129, /inside the mount/);
  await afs.fails(["mount", afs.at("repo.git"), "b", "--name", "a"], 129, /another repository has/);
  await afs.ok(["mount", afs.at("repo.git"), "c", "--branch", "feature", "--depth", "1"]);
  const c = await afs.json(["status", "c"]);
  assert.equal(c.repos[0].ref, "refs/heads/feature");
  // Its history is one commit, so a depth of 1 has all of it.
  assert.match(c.repos[0].history, /^(full|shallow:1)$/);
  await afs.ok(["mount", `file://${afs.at("repo.git")}`, "d", "--depth", "1"]);
  const d = fieldsOf((await afs.ok(["status", "d"])).stdout);
  assert.deepEqual([d["history"], d["ahead"], d["diverged"]], ["shallow:1", "unknown", "unknown"]);
  await afs.ok(["remove-repo", "a"]);
  assert.equal(await cat(afs.at("sub/a/file.txt")), "content 3\n");
});

cliTest("two mounts of the same thing at once: one daemon, one mount", async (afs) => {
  await makeRepo(afs.at("repo.git"));
  const args = ["mount", afs.at("repo.git"), afs.at("m"), "--json"];
  const results = await Promise.all([afs.ok(args), afs.ok(args), afs.ok(args)]);
  const acquired = results.map(({ stdout }) => JSON.parse(stdout).acquired);
  assert.deepEqual(acquired.toSorted(), [false, false, true]);
  assert.deepEqual(await afs.mounts(), [afs.at("m")]);
  assert.equal((await afs.json(["list-repos"])).repos.length, 1);
  const log = await Deno.readTextFile(afs.at("state", "daemon.log"));
  assert.equal(log.match(/"msg":"Starting"/g)?.length, 1);
});

cliTest("a busy mount: refused, or lazily with --force", async (afs) => {
  await makeRepo(afs.at("repo.git"));
  await afs.ok(["mount", afs.at("repo.git"), "m"]);
  const inside = new Deno.Command("sh", {
    args: ["-c", "cd m && echo in && read x"],
    cwd: afs.dir.path,
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const out = inside.stdout.getReader();
  await out.read();
  await afs.fails(["unmount", "m"], 6, /in use/);
  await afs.fails(["remount", "m"], 6, /in use/);
  await afs.fails(["remove-repo", "m"], 6, /in use/);
  assert.equal((await afs.json(["status"])).repos[0].state, "mounted");
  await afs.ok(["unmount", "m", "--force"]);
  assert.deepEqual(await afs.mounts(), []);
  await inside.stdin.close();
  await out.cancel();
  await inside.status;
});

cliTest("add-repo without a daemon, then a daemon in the foreground", async (afs) => {
  const commits = await makeRepo(afs.at("srv", "repo.git"));
  await using server = startGitServer({ root: afs.at("srv") });
  const remote = server.url("repo.git");
  const add = ["add-repo", "--remote", remote, "--mount-root", afs.at("root")];
  const offline = await afs.json([...add, "--name", "one"]);
  assert.deepEqual([offline.mounted, offline.head], [false, commits.at(-1)]);
  assert.equal((await afs.json(["list-repos"])).repos[0].state, "unmounted");
  await afs.fails([...add, "--name", "one"], 129, /another repository has it/);
  const daemon = await afs.startDaemon({
    args: ["--root", afs.at("root2"), "--hydration-concurrency", "2"],
  });
  await waitFor(async () => (await afs.mounts()).length === 1, "mount");
  assert.equal(await cat(afs.at("root/one/file.txt")), "content 3\n");
  await afs.fails(["daemon"], 6, /another one runs/);
  const online = await afs.json(["add-repo", "--remote", remote, "--name", "two", "--ref", "main"]);
  assert.deepEqual([online.mounted, online.mountPoint], [true, afs.at("root2/two")]);
  assert.equal(await cat(afs.at("root2/two/file.txt")), "content 3\n");
  // Something inside does not keep a signal from ending it.
  const inside = new Deno.Command("sh", {
    args: ["-c", "cd root/one && exec 3< file.txt && echo in && read x"],
    cwd: afs.dir.path,
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const out = inside.stdout.getReader();
  await out.read();
  assert.equal(await daemon.stop("SIGINT"), 0);
  assert.deepEqual(await afs.mounts(), []);
  await assert.rejects(Deno.stat(afs.socketPath), Deno.errors.NotFound);
  await inside.stdin.close();
  await out.cancel();
  await inside.status;
  // What was mounted is mounted again, with nobody to ask.
  server.set({ down: true });
  await afs.startDaemon();
  await waitFor(async () => (await afs.mounts()).length === 2, "mounts");
  assert.equal(await cat(afs.at("root2/two/file.txt")), "content 3\n");
});

cliTest("a killed daemon: its mounts are replaced at the next start", async (afs) => {
  await makeRepo(afs.at("repo.git"));
  await afs.ok(["mount", afs.at("repo.git"), "m"]);
  await afs.ok(["mount", afs.at("repo.git"), "n"]);
  await afs.endDaemon("SIGKILL");
  assert.equal((await afs.mounts()).length, 2, "dead mounts");
  assert.equal((await afs.json(["status", "--name", "m"])).repos[0].state, "unmounted");
  // One verb without a daemon, and one that starts it.
  await afs.ok(["unmount", "n"]);
  await afs.ok(["mount", afs.at("repo.git"), "m"]);
  assert.deepEqual(await afs.mounts(), [afs.at("m")]);
  assert.equal(await cat(afs.at("m/file.txt")), "content 3\n");
});

cliTest("one repository's failure leaves the others alone", async (afs) => {
  await makeRepo(afs.at("repo.git"));
  await afs.ok(["mount", afs.at("repo.git"), "good"]);
  await afs.ok(["mount", afs.at("repo.git"), "bad"]);
  await afs.endDaemon();
  await Deno.writeTextFile(afs.at("bad", "in the way"), "x");
  await afs.startDaemon();
  await waitFor(async () => {
    const { repos } = await afs.json(["status"]);
    const states = repos.map((repo: { state: string }) => repo.state);
    return states.join() === "failed,mounted";
  }, "states failed and mounted");
  assert.match((await afs.ok(["status", "bad"])).stdout, /result="Cannot mount at .*not empty/);
  await Deno.remove(afs.at("bad", "in the way"));
  await afs.ok(["remount", "bad"]);
  assert.equal((await afs.mounts()).length, 2);
});

cliTest("Ctrl-C while a repository is acquired undoes it", async (afs) => {
  await makeRepo(afs.at("srv", "repo.git"));
  await using server = startGitServer({ root: afs.at("srv"), hang: true });
  for (const signal of ["SIGINT", "SIGKILL"] as const) {
    const child = afs.start(["mount", server.url("repo.git"), afs.at("m")]);
    await waitFor(() => server.counters().requests > 0, "request");
    child.kill(signal);
    assert.equal(await child.exited, signal === "SIGINT" ? 130 : 137);
    await waitFor(
      async () => (await namesIn(afs.at("state", "stores"))).length === 0,
      "end of the undoing",
    );
    await waitFor(
      async () => (await namesIn(afs.at("state", "repos"))).length === 0,
      "end of the undoing",
    );
    await assert.rejects(Deno.stat(afs.at("m")), Deno.errors.NotFound);
    if (signal === "SIGKILL") await afs.endDaemon();
    await afs.assertNothingLeft();
    server.resetCounters();
  }
  const add = ["add-repo", "--name", "x", "--remote", server.url("repo.git")];
  const child = afs.start([...add, "--mount-root", afs.at("root")]);
  await waitFor(() => server.counters().requests > 0, "request");
  child.kill("SIGINT");
  assert.equal(await child.exited, 130);
  await afs.assertNothingLeft();
});

cliTest("Ctrl-C while the daemon does not answer ends any verb", async (afs) => {
  await makeRepo(afs.at("repo.git"));
  await makeRepo(afs.at("other.git"));
  const daemon = await afs.startDaemon();
  await afs.ok(["mount", afs.at("repo.git"), "m", "--wait=history"]);
  Deno.kill(daemon.pid, "SIGSTOP");
  const m = afs.at("m");
  const verbs = [
    ["status"],
    ["list-repos", "--json"],
    ["fetch", m],
    ["set-refresh", m, "--interval", "1h"],
    ["switch", "feature", "--name", "m"],
    ["remount", m],
    ["mount", afs.at("other.git"), afs.at("other")],
    ["add-repo", "--name", "x", "--remote", afs.at("other.git"), "--mount-root", afs.at("root")],
    ["unmount", m, "--force"],
    ["remove-repo", m],
  ];
  try {
    for (const verb of verbs) {
      const child = afs.start(verb);
      await waitFor(() => handles(child.pid, 2), `handler of SIGINT of ${verb}`);
      child.kill("SIGINT");
      assert.equal(await child.exited, 130, verb.join(" "));
    }
  } finally {
    Deno.kill(daemon.pid, "SIGCONT");
  }
  // Nobody waits for these any more.
  await waitFor(async () => {
    const { repos } = await afs.json(["list-repos"]);
    return repos.every(({ repo }: { repo: string }) => repo === "m");
  }, "end of the undoing");
});

/**
 * Whether the process has a handler for a signal, and sleeps: the runtime has the kernel's handler
 * a moment before it knows whom to tell.
 */
async function handles(pid: number, signal: number): Promise<boolean> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`).catch(() => "");
  if (!/^State:\s+S/m.test(status)) return false;
  const caught = BigInt(`0x${/^SigCgt:\s+([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  return (caught >> BigInt(signal - 1) & 1n) === 1n;
}

/** What a mount without a daemon makes, one after the other, before its verb is asked. */
const STARTING = ["", "daemon.log", "daemon.lock", "registry.sqlite", "control.sock"];

cliTest("Ctrl-C at any moment of a daemon's start leaves no idle daemon", async (afs) => {
  await makeRepo(afs.at("srv", "repo.git"));
  await using server = startGitServer({ root: afs.at("srv"), hang: true });
  const interruptAt = async (name: string, signal: Deno.Signal) => {
    const made = `${afs.stateRoot}/${name}`;
    const child = afs.start(["mount", server.url("repo.git"), afs.at("m")]);
    await waitFor(() => Deno.lstatSync(made), made, { pollMs: 1 });
    child.kill(signal);
    assert.ok(await child.exited > 128, name);
    // A daemon of this state root, starting or running, in whatever state its log is.
    return await afs.processes();
  };
  for (const name of STARTING) {
    assert.deepEqual(await interruptAt(name, "SIGINT"), [], name);
    await afs.assertNothingLeft();
    await Deno.remove(afs.stateRoot, { recursive: true });
  }
  // Nobody is left to end the daemon: it goes by itself.
  await interruptAt("daemon.log", "SIGKILL");
  await waitFor(async () => (await afs.processes()).length === 0, "end of the daemon");
  await afs.assertNothingLeft();
});

cliTest("a daemon in the background goes with its last repository", async (afs) => {
  await makeRepo(afs.at("repo.git"));
  await afs.ok(["mount", afs.at("repo.git"), "m"]);
  await afs.ok(["unmount", "m"]);
  const [background] = await afs.daemons();
  await afs.ok(["remove-repo", "--name", "m"]);
  await background?.ended();
  assert.equal((await background?.logged("Stopped"))?.length, 1);
  await afs.assertNothingLeft();
});

cliTest("a daemon that is told to stop undoes what is under way", async (afs) => {
  await makeRepo(afs.at("srv", "repo.git"));
  await using server = startGitServer({ root: afs.at("srv"), hang: true });
  const daemon = await afs.startDaemon();
  const mounting = afs.fails(["mount", server.url("repo.git"), "m"], 1, /stopping|interrupted/);
  await waitFor(() => server.counters().requests > 0, "request");
  assert.equal(await daemon.stop(), 0);
  await mounting;
  await afs.assertNothingLeft();
});

cliTest("remove-repo refuses while commits exist only here", async (afs) => {
  await makeRepo(afs.at("repo.git"));
  await afs.ok(["mount", afs.at("repo.git"), "m", "--wait=history"]);
  const tree = (await git(["-C", afs.at("m"), "rev-parse", "HEAD^{tree}"])).stdout.trim();
  const made = await git(["-C", afs.at("m"), "commit-tree", "-p", "HEAD", "-m", "mine", tree]);
  await git(["-C", afs.at("m"), "branch", "mine", made.stdout.trim()]);
  await afs.fails(["remove-repo", "m"], 1, /1 commit on branch mine/);
  const dry = await afs.ok(["remove-repo", "m", "--dry-run"]);
  assert.match(dry.stdout, /^Would remove m\nWould lose 1 commit on branch mine\n$/);
  assert.equal((await afs.mounts()).length, 1);
  await afs.endDaemon();
  await afs.fails(["remove-repo", "--name", "m"], 1, /1 commit on branch mine/);
  await afs.ok(["remove-repo", "--name", "m", "--force"]);
  await afs.assertNothingLeft();
});

cliTest("a token in the URL is kept in one file and shown nowhere", async (afs) => {
  await makeRepo(afs.at("srv", "repo.git"));
  const login = { user: "someone", password: "s3cret-t0ken" };
  await using server = startGitServer({ root: afs.at("srv"), login });
  const url = server.url("repo.git", login);
  const mounted = await afs.ok(["mount", url, "m", "--wait=history"]);
  const later = await afs.ok(["status"]);
  const json = await afs.ok(["status", "--json"]);
  await afs.endDaemon();
  await afs.startDaemon();
  await waitFor(async () => (await afs.mounts()).length === 1, "mount");
  assert.equal(await cat(afs.at("m/file.txt")), "content 3\n");
  for (const { stdout, stderr } of [mounted, later, json]) {
    assert.doesNotMatch(stdout + stderr, /s3cret-t0ken/);
  }
  const found = await run("grep", ["-rlaF", "s3cret-t0ken", afs.stateRoot], { okCodes: [0, 1] });
  const [id = ""] = await namesIn(afs.at("state", "credentials"));
  assert.equal(found.stdout.trim(), afs.at("state", "credentials", id));
});

cliTest(
  "contents come with a login of any mount of the store, also a new one",
  async (afs) => {
    await makeRepo(afs.at("srv", "repo.git"));
    const [one, two, three] = ["one", "two", "three"].map((user) => ({
      user,
      password: `${user}-pw`,
    }));
    assert.ok(one !== undefined && two !== undefined && three !== undefined);
    await using server = startGitServer({ root: afs.at("srv"), login: one });
    const url = (login: typeof one) => server.url("repo.git", login);
    await afs.ok(["mount", url(one), "m", "--wait=history"]);
    server.set({ login: two });
    await afs.ok(["mount", url(two), "n", "--branch", "feature"]);
    // The last one's login is refused by now, and the first one's is good again.
    server.set({ login: one });
    assert.equal(await cat(afs.at("m/file.txt")), "content 3\n");
    // All are refused; a new token for one of them is enough, at once.
    server.set({ login: three });
    await afs.ok(["mount", url(three), "m"]);
    assert.equal(await cat(afs.at("n/file.txt")), "content 1\n");
    const log = await Deno.readTextFile(afs.at("state", "daemon.log"));
    assert.doesNotMatch(log, /-pw/);
  },
);

cliTest("--uid and --gid say whose the files are", async (afs) => {
  await makeRepo(afs.at("repo.git"));
  await afs.ok(["mount", afs.at("repo.git"), "m", "--uid", "65534", "--gid", "65533"]);
  const stat = await run("stat", ["-c", "%u:%g", afs.at("m"), afs.at("m/file.txt")]);
  assert.equal(stat.stdout, "65534:65533\n65534:65533\n");
  const asOwner = await new Deno.Command("git", {
    args: ["-C", afs.at("m"), "log", "--format=%s", "-1"],
    uid: 65534,
    gid: 65533,
    clearEnv: true,
    env: { PATH: Deno.env.get("PATH") ?? "", HOME: "/nonexistent" },
  }).output();
  assert.equal(new TextDecoder().decode(asOwner.stdout), "c3\n");
  assert.equal((await afs.json(["status"])).repos[0].ref, "refs/heads/main");
  const mount = ["mount", afs.at("repo.git"), "m"];
  await afs.ok(mount);
  await afs.ok([...mount, "--uid", "65534", "--gid", "65533"]);
  await afs.fails([...mount, "--uid", "0", "--gid", "0"], 6, /for user 65534, group 65533/);
  await afs.ok(["remove-repo", "m"]);
  await afs.ok(["mount", afs.at("repo.git"), "s"], { env: { SUDO_UID: "1234", SUDO_GID: "1235" } });
  const sudo = await run("stat", ["-c", "%u:%g", afs.at("s/file.txt")]);
  assert.equal(sudo.stdout, "1234:1235\n");
});

cliTest("history that cannot be fetched is tried again until it can", async (afs) => {
  const commits = await makeRepo(afs.at("srv", "repo.git"), 40);
  await using server = startGitServer({ root: afs.at("srv") });
  const url = server.url("repo.git");
  await afs.ok(["add-repo", "--name", "m", "--remote", url, "--mount-root", afs.dir.path]);
  server.set({ down: true });
  await afs.fails(["mount", url, "m", "--wait", "history"], 4, /the daemon tries again/);
  const status = fieldsOf((await afs.ok(["status"])).stdout);
  assert.deepEqual([status["state"], status["history"], status["ahead"]], [
    "mounted",
    "fetching",
    "unknown",
  ]);
  assert.match(status["result"] ?? "", /^Cannot fetch the history/);
  server.set({ down: false });
  await waitFor(
    async () => (await afs.json(["status"])).repos[0].history === "full",
    "history",
    { timeoutMs: 120_000 },
  );
  const log = await git(["-C", afs.at("m"), "rev-list", "--count", "HEAD"]);
  assert.equal(log.stdout.trim(), `${commits.length}`);
});

cliTest("files of the state root have the rights the layout names", async (afs) => {
  await makeRepo(afs.at("repo.git"));
  await afs.ok(["mount", afs.at("repo.git"), "m"]);
  const modes: [string, number][] = [
    ["", 0o711],
    ["control.sock", 0o600],
    ["daemon.lock", 0o600],
    ["daemon.log", 0o600],
    ["registry.sqlite", 0o600],
    ["repos", 0o700],
    ["stores", 0o711],
  ];
  for (const [name, mode] of modes) {
    const { mode: found } = await Deno.lstat(afs.at("state", ...(name === "" ? [] : [name])));
    assert.equal((found ?? 0) & 0o777, mode, name);
  }
});

cliTest("demo shows a repository and leaves nothing", async (afs) => {
  await Deno.mkdir(afs.at("tmp"));
  const { stdout } = await afs.ok(["demo"], { env: { TMPDIR: afs.at("tmp") } });
  for (const part of ["README.md", "hello from a mounted file", "Add a link", "state=mounted"]) {
    assert.ok(stdout.includes(part), part);
  }
  assert.deepEqual(await namesIn(afs.at("tmp")), []);
});
