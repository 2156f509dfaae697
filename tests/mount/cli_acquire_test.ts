/** How a repository is acquired: behind the mount, at a required commit, over a bad network. */

import assert from "node:assert/strict";
import { startGitServer } from "../support/git_server.ts";
import type { GitServer } from "../support/git_server_api.ts";
import { git, run, waitFor } from "../support/run.ts";
import { type Cli, cliTest, fieldsOf, makeRepo } from "./cli_harness.ts";

interface World {
  readonly url: string;
  readonly server: GitServer;
  /** Of main, oldest first. */
  readonly commits: readonly string[];
}

/** A server of one repository. */
async function serve(afs: Cli): Promise<World & AsyncDisposable> {
  const commits = await makeRepo(afs.at("srv", "repo.git"));
  const server = startGitServer({ root: afs.at("srv") });
  const url = server.url("repo.git");
  return { url, server, commits, [Symbol.asyncDispose]: () => server.close() };
}

/** `add-repo --async`, which has to answer at once. */
async function addAsync(afs: Cli, name: string, remote: string, ...flags: string[]) {
  const args = ["add-repo", "--name", name, "--remote", remote, "--async", ...flags];
  return fieldsOf((await afs.ok(args)).stdout);
}

async function stateOf(afs: Cli, name: string): Promise<string> {
  return (await afs.statusOf(name)).state;
}

async function untilState(afs: Cli, name: string, state: string): Promise<void> {
  await waitFor(async () => await stateOf(afs, name) === state, `${name} that is ${state}`);
}

/** Its requests have reached the kernel: it sleeps there. */
async function untilWaiting(pid: number): Promise<void> {
  await waitFor(async () => {
    const stack = await Deno.readTextFile(`/proc/${pid}/wchan`).catch(() => "");
    return /fuse|request_wait/.test(stack);
  }, "process that waits in the mount");
}

cliTest("add-repo --async: the mount is there, and what is done in it waits", async (afs) => {
  await using world = await serve(afs);
  const { url, server, commits } = world;
  server.set({ hang: true });
  await afs.startDaemon();
  const fields = await addAsync(afs, "one", url);
  const mountPoint = afs.at("mnt", "one");
  assert.deepEqual(
    [fields["state"], fields["mount"], fields["head"]],
    ["preparing", mountPoint, "unknown"],
  );
  const stat = await run("stat", ["-c", "%F %a", mountPoint]);
  assert.equal(stat.stdout, "directory 755\n");
  const waiting = afs.park("cat", `${mountPoint}/file.txt`);
  const impatient = afs.park("ls", mountPoint);
  await untilWaiting(waiting.pid);
  await untilWaiting(impatient.pid);
  impatient.kill("SIGINT");
  assert.equal(await impatient.exited, 130);
  const status = fieldsOf((await afs.ok(["status", "--name", "one"])).stdout);
  assert.deepEqual(
    ["state", "source_ref", "required_commit", "acquisition", "base_commit", "prepare_error"].map(
      (name) => status[name],
    ),
    ["preparing", "HEAD", "none", "not_required", "none", "none"],
  );
  assert.match((await afs.ok(["list-repos"])).stdout, /repo=one state=preparing /);
  await afs.fails(["fetch", "--name", "one"], 6, /is being prepared/);
  await afs.fails(["mount", url, mountPoint], 6, /is being prepared/);
  await afs.fails(["add-repo", "--name", "one", "--remote", url], 129, /another repository has it/);

  const prepared = afs.start(["prepare", "--name", "one"]);
  server.set({ hang: false });
  assert.equal(await waiting.exited, 0);
  assert.equal(await prepared.exited, 0);
  const { stdout } = await run("cat", [`${mountPoint}/file.txt`]);
  assert.equal(stdout, "content 3\n");
  assert.equal(await stateOf(afs, "one"), "mounted");
  assert.equal((await git(["-C", mountPoint, "status", "--porcelain"])).stdout, "");
  assert.match((await afs.ok(["prepare", "--name", "one"])).stdout, /state=mounted/);
  assert.equal((await git(["-C", mountPoint, "rev-parse", "HEAD"])).stdout.trim(), commits.at(-1));
  await run("sh", ["-c", 'echo mine > "$1/file.txt"', "sh", mountPoint]);
  await afs.endDaemon();
  await afs.startDaemon();
  assert.equal((await run("cat", [`${mountPoint}/file.txt`])).stdout, "mine\n");
});

cliTest("add-repo --async: a failure is EIO until it is prepared again", async (afs) => {
  await using world = await serve(afs);
  await afs.startDaemon();
  const away = `${afs.at("srv", "repo.git")}.away`;
  await Deno.rename(afs.at("srv", "repo.git"), away);
  await addAsync(afs, "one", world.url, "--refresh", "never");
  const mountPoint = afs.at("mnt", "one");
  const failed = await run("ls", [mountPoint], { okCodes: "any" });
  assert.equal(failed.code, 2);
  assert.match(failed.stderr, /Input\/output error/);
  assert.equal((await run("stat", ["-c", "%F", mountPoint])).stdout, "directory\n");
  const status = await afs.json(["status", "--name", "one"]);
  assert.equal(status.repos[0].state, "failed");
  assert.match(status.repos[0].prepareError, /^Cannot mount .*no git repository there/);
  await afs.fails(["switch", "main", mountPoint], 5, /is not mounted; see afs status/);
  await afs.fails(["fetch", "--name", "one"], 1, /could not be prepared/);
  await afs.fails(["prepare", "--name", "one"], 1, /no git repository there/);

  // Not tried by itself again: not after a restart either.
  await afs.endDaemon();
  await afs.startDaemon();
  assert.equal((await run("ls", [mountPoint], { okCodes: "any" })).code, 2);
  await Deno.rename(away, afs.at("srv", "repo.git"));
  const inside = afs.park("sh", "-c", 'cd "$1" && exec cat', "sh", mountPoint);
  await afs.ok(["prepare", mountPoint]);
  assert.equal((await run("cat", [`${mountPoint}/file.txt`])).stdout, "content 3\n");
  assert.equal((await afs.statusOf("one")).remoteRefresh, "never");
  inside.killGroup();
  await inside.exited;
});

cliTest(
  "add-repo --async: goes on after the daemon ended or was killed, or starts",
  async (afs) => {
    await using world = await serve(afs);
    const { url, server } = world;
    // No daemon yet: the next one mounts and prepares.
    const root = ["--mount-root", afs.at("mnt")];
    assert.equal((await addAsync(afs, "one", url, ...root))["state"], "preparing");
    server.set({ hang: true });
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      const daemon = await afs.startDaemon();
      await waitFor(async () => (await daemon.logged("Preparing")).length > 0, "preparation");
      assert.equal(await stateOf(afs, "one"), "preparing");
      await daemon.stop(signal);
    }
    assert.match((await afs.ok(["list-repos"])).stdout, /repo=one state=preparing /);
    server.set({ hang: false });
    await afs.startDaemon();
    assert.equal((await run("cat", [afs.at("mnt", "one", "file.txt")])).stdout, "content 3\n");
    await afs.ok(["remove-repo", "--name", "one"]);
    await afs.endDaemon();
    await afs.assertNothingLeft();
  },
);

cliTest("add-repo --async: unmount, remount and remove while it is prepared", async (afs) => {
  await using world = await serve(afs);
  const { url, server } = world;
  server.set({ hang: true });
  await afs.startDaemon();
  await addAsync(afs, "one", url);
  const mountPoint = afs.at("mnt", "one");
  await afs.ok(["unmount", mountPoint]);
  assert.deepEqual(await afs.mounts(), []);
  await afs.fails(["unmount", "--name", "one"], 5, /not mounted/);
  await afs.ok(["remount", "--name", "one"]);
  assert.deepEqual(await afs.mounts(), [mountPoint]);
  const waiting = afs.park("cat", `${mountPoint}/file.txt`);
  await untilWaiting(waiting.pid);
  await afs.ok(["remove-repo", "--name", "one", "--force"]);
  assert.notEqual(await waiting.exited, 0);
  server.set({ hang: false });

  // It is unmounted when it has come.
  server.set({ hang: true });
  await addAsync(afs, "two", url);
  await afs.ok(["unmount", "--name", "two"]);
  server.set({ hang: false });
  await untilState(afs, "two", "unmounted");
  assert.deepEqual(await afs.mounts(), []);
  await afs.ok(["remount", "--name", "two"]);
  assert.equal((await run("cat", [afs.at("mnt", "two", "file.txt")])).stdout, "content 3\n");
  await afs.ok(["remove-repo", "--name", "two"]);
  await afs.endDaemon();
  await afs.assertNothingLeft();
});

cliTest("add-repo --async: what cannot be kept or mounted is refused", async (afs) => {
  await using world = await serve(afs);
  await afs.startDaemon();
  const url = world.server.url("repo.git", { user: "u", password: "t0ken" });
  const args = ["add-repo", "--name", "one", "--async", "--remote"];
  const line = await afs.fails([...args, url], 129, /its URL has a login/);
  assert.ok(!line.includes("t0ken"));
  await Deno.mkdir(afs.at("mnt", "one"), { recursive: true });
  await Deno.writeTextFile(afs.at("mnt", "one", "theirs"), "x");
  await afs.fails([...args, world.url], 129, /not empty/);
  await afs.fails([...args, world.url, "--require-commit", "abc"], 129, /all 40 or 64/);
  await afs.endDaemon();
  await Deno.remove(afs.at("mnt", "one"), { recursive: true });
  await afs.assertNothingLeft();
});

cliTest("--require-commit: that commit or nothing, and the base stays there", async (afs) => {
  await using world = await serve(afs);
  const { url, commits } = world;
  await afs.startDaemon();
  const [first = "", , last = ""] = commits;
  const add = (
    name: string,
    oid: string,
    ...flags: string[]
  ) => ["add-repo", "--name", name, "--remote", url, "--require-commit", oid, ...flags];
  const moved = await afs.fails(add("one", first), 1, /is required; nothing was mounted/);
  assert.ok(moved.includes(last) && moved.includes(first));
  await addAsync(afs, "two", url, "--require-commit", first);
  await untilState(afs, "two", "failed");
  await afs.ok(["remove-repo", "--name", "two"]);

  await afs.ok(add("one", last.toUpperCase(), "--ref", "refs/heads/main", "--depth", "1"));
  const status = () => afs.ok(["status", "--name", "one"]).then(({ stdout }) => fieldsOf(stdout));
  const before = await status();
  assert.deepEqual(
    ["source_ref", "required_commit", "acquisition", "base_commit"].map((name) => before[name]),
    ["refs/heads/main", last, "verified", last],
  );
  const mountPoint = afs.at("mnt", "one");
  await run("sh", ["-c", 'echo more >> "$1/file.txt"', "sh", mountPoint]);
  const who = ["-c", "user.name=T", "-c", "user.email=t@example.com"];
  await git(["-C", mountPoint, ...who, "commit", "-q", "-am", "more"]);
  await afs.ok(["switch", "--json", "-c", "topic", mountPoint]);
  await git(["-C", mountPoint, "switch", "-q", "--detach", last]);
  assert.equal((await run("cat", [`${mountPoint}/file.txt`])).stdout, "content 3\n");
  assert.equal((await git(["-C", mountPoint, "status", "--porcelain"])).stdout, "");
  await afs.ok(["switch", "topic", mountPoint]);
  assert.equal((await run("cat", [`${mountPoint}/file.txt`])).stdout, "content 3\nmore\n");
  const after = await status();
  assert.deepEqual([after["base_commit"], after["acquisition"]], [last, "verified"]);
  await afs.endDaemon();
  await afs.startDaemon();
  assert.equal((await run("cat", [`${mountPoint}/file.txt`])).stdout, "content 3\nmore\n");
  assert.equal((await status())["base_commit"], last);
  await afs.fails(["mount", url, mountPoint, "--require-commit", first], 6, /is registered there/);
});

cliTest(
  "a fetch that the network spoils is tried again, one that is refused is not",
  async (afs) => {
    await using world = await serve(afs);
    const { url, server } = world;
    await afs.startDaemon();
    server.set({ down: true });
    const mounting = afs.start(["mount", url, afs.at("mnt", "one")]);
    await waitFor(() => Promise.resolve(server.counters().errors > 0), "request that is refused");
    server.set({ down: false });
    assert.equal(await mounting.exited, 0);
    assert.equal((await run("cat", [afs.at("mnt", "one", "file.txt")])).stdout, "content 3\n");

    server.set({ down: true });
    const failed = await afs.run(["mount", url, afs.at("mnt", "two"), "--depth", "2"]);
    assert.equal(failed.code, 4, failed.stderr);
    assert.match(failed.stderr, /^afs: Fetching again, since the connection failed$/m);
    server.set({ down: false });
    server.resetCounters();
    await afs.fails(["mount", server.url("none"), afs.at("mnt", "two")], 1, /no git repository/);
    const { lsRefs, discovery } = server.counters();
    assert.ok(lsRefs + discovery <= 2, JSON.stringify(server.counters()));
    await afs.ok(["mount", url, afs.at("mnt", "three"), "--refresh", "1h"]);
    assert.equal((await afs.statusOf("three")).remoteRefresh, "1h");
    await afs.ok(["mount", url, afs.at("mnt", "three"), "--refresh", "never"]);
    assert.equal((await afs.statusOf("three")).remoteRefresh, "never");
  },
);

cliTest("--umask and --read-only: modes as a checkout has them, and no change", async (afs) => {
  await using world = await serve(afs);
  const { url } = world;
  await afs.startDaemon();
  const script = 'cd "$1" && stat -c "%a %n" . file.txt dir dir/other.txt .git';
  const modes = async (path: string) =>
    (await run("sh", ["-c", script, "sh", path])).stdout.split("\n").map((line) =>
      line.slice(0, 3)
    );
  const shared = afs.at("mnt", "shared");
  await afs.ok(["mount", url, shared, "--umask", "002"]);
  assert.deepEqual(await modes(shared), ["775", "664", "775", "664", "664", ""]);
  await run("sh", ["-c", 'umask 002; echo x >> "$1/file.txt"; echo y > "$1/new"', "sh", shared]);
  assert.match((await run("stat", ["-c", "%a", `${shared}/file.txt`])).stdout, /^664$/m);
  const status = await git(["-C", shared, "status", "--porcelain"]);
  assert.equal(status.stdout, " M file.txt\n?? new\n");
  // What a switch brings has them too.
  await git(["-C", shared, "checkout", "-q", "--", "file.txt"]);
  await afs.ok(["switch", "feature", shared]);
  assert.match((await run("stat", ["-c", "%a", `${shared}/file.txt`])).stdout, /^664$/m);
  await afs.fails(["mount", url, shared, "--umask", "077"], 6, /with umask 002 is registered/);

  const closed = afs.at("mnt", "closed");
  await afs.ok(["mount", url, closed, "--umask", "77", "--read-only"]);
  assert.deepEqual(await modes(closed), ["700", "600", "700", "600", "600", ""]);
  for (const change of ["echo x >> file.txt", "touch new", "rm file.txt", "chmod 777 dir"]) {
    const failed = await run("sh", ["-c", `cd "$1" && ${change}`, "sh", closed], {
      okCodes: "any",
    });
    assert.notEqual(failed.code, 0, change);
    assert.match(failed.stderr, /Read-only file system/, change);
  }
  assert.equal((await git(["-C", closed, "status", "--porcelain"])).stdout, "");
  await git(["-C", closed, "branch", "mine"]);
  await afs.ok(["switch", "feature", closed]);
  assert.equal((await run("cat", [`${closed}/file.txt`])).stdout, "content 1\n");
  await afs.ok(["remount", closed]);
  assert.notEqual((await run("touch", [`${closed}/new`], { okCodes: "any" })).code, 0);
  await afs.fails(["mount", url, shared, "--read-only"], 6, /may be written/);
  await afs.run(["mount", url, afs.at("mnt", "x"), "--umask", "777"]).then(({ code, stderr }) => {
    assert.equal(code, 129, stderr);
    assert.match(stderr, /from 000 to 077/);
  });
});
