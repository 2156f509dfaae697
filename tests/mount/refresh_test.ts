/** What the remote has now, seen by git in a mount: asked for, and by itself. */

import assert from "node:assert/strict";
import { startGitServer } from "../support/git_server.ts";
import { git, waitFor } from "../support/run.ts";
import { type Cli, cliTest, fieldsOf, makeRepo } from "./cli_harness.ts";

/** Adds a commit to a branch of a bare repository, as somebody else's push. Returns its oid. */
async function push(gitDir: string, branch = "main", parent = branch): Promise<string> {
  const tree = `${parent}^{tree}`;
  const made = await git(["-C", gitDir, "commit-tree", "-p", parent, "-m", "pushed", tree]);
  const oid = made.stdout.trim();
  await git(["-C", gitDir, "update-ref", `refs/heads/${branch}`, oid]);
  return oid;
}

/** `git <args>` in a mount; what it printed. */
async function inMount(mountPoint: string, ...args: string[]): Promise<string> {
  return (await git(["-C", mountPoint, ...args])).stdout;
}

// deno-lint-ignore no-explicit-any -- as `json`
async function statusOf(afs: Cli, name: string): Promise<any> {
  return (await afs.json(["status", "--name", name])).repos[0];
}

async function distance(afs: Cli, name: string): Promise<unknown[]> {
  const { ahead, behind, diverged } = await statusOf(afs, name);
  return [ahead, behind, diverged];
}

/** Commits on HEAD without a work tree to write to. */
async function commitInMount(mountPoint: string): Promise<void> {
  await inMount(mountPoint, "commit", "-q", "--allow-empty", "-m", "mine");
}

cliTest("fetch: git in the mount sees what was pushed; HEAD and the tree stay", async (afs) => {
  const gitDir = afs.at("srv", "repo.git");
  const commits = await makeRepo(gitDir);
  await using server = startGitServer({ root: afs.at("srv") });
  await afs.ok(["mount", server.url("repo"), "m", "--wait=history"]);
  await afs.ok(["set-refresh", "m", "--interval", "never"]);
  const owner = ["--uid", "65534", "--gid", "65534"];
  await afs.ok(["mount", server.url("repo"), "n", "--branch", "feature", ...owner]);
  const mountPoint = afs.at("m");

  server.resetCounters();
  const none = fieldsOf((await afs.ok(["fetch", "m"])).stdout);
  assert.match(none["last_fetch"] ?? "", /^\d{4}-.*Z$/);
  assert.deepEqual({ ...none, last_fetch: "" }, {
    repo: "m",
    refs: "0",
    ahead: "0",
    behind: "0",
    diverged: "false",
    last_fetch: "",
  });
  const { requests, fetch } = server.counters();
  console.log(`      nothing new: ${requests} requests`);
  assert.deepEqual([requests, fetch], [2, 0]);

  await push(gitDir);
  const tip = await push(gitDir);
  await git(["-C", gitDir, "update-ref", "-d", "refs/heads/feature"]);
  await git(["-C", gitDir, "tag", "v1", tip]);
  server.resetCounters();
  const json = await afs.json(["fetch", `${mountPoint}/dir`]);
  assert.deepEqual([json.repo, json.refs, json.behind], ["m", 2, 2]);
  console.log(`      two commits and a tag: ${server.counters().requests} requests`);
  server.resetCounters();
  assert.match(
    await inMount(mountPoint, "status", "-sb"),
    /^## main\.\.\.origin\/main \[behind 2\]$/m,
  );
  assert.equal(await inMount(mountPoint, "status", "--porcelain"), "");
  assert.equal((await inMount(mountPoint, "rev-parse", "v1")).trim(), tip);
  assert.equal((await inMount(mountPoint, "rev-parse", "HEAD")).trim(), commits.at(-1));
  assert.deepEqual(await distance(afs, "m"), [0, 2, false]);
  // The other work tree of the store has it too; its branch is gone, and what it had is not.
  const dirs = await afs.sh('cd "$1"; grep -l feature */HEAD; find . -user 65534 ! -group 65534', [
    afs.at("state", "gitdirs"),
  ]);
  const [line = "", ...wrong] = dirs.stdout.trim().split("\n");
  assert.deepEqual(wrong, []);
  const otherDir = afs.at("state", "gitdirs", line.replace("/HEAD", ""));
  const foreign = await afs.sh('find "$1" ! -user 65534', [otherDir]);
  assert.equal(foreign.stdout, "");
  const other = await git(["--git-dir", otherDir, "rev-parse", "origin/main", "origin/feature"]);
  assert.equal(other.stdout, `${tip}\n${commits[0]}\n`);
  assert.equal(server.counters().requests, 0, "git status asks nobody");

  await commitInMount(mountPoint);
  assert.deepEqual(await distance(afs, "m"), [1, 2, true]);
  // Rewritten.
  await git(["-C", gitDir, "update-ref", "refs/heads/main", commits[0] ?? ""]);
  assert.equal((await afs.json(["fetch", "--name", "m"])).diverged, false);
  assert.deepEqual(await distance(afs, "m"), [3, 0, false]);
  await afs.ok(["unmount", "m"]);
  await push(gitDir);
  assert.deepEqual([(await afs.json(["fetch", "--name", "m"])).behind], [1]);

  // Without a daemon, and what status says then.
  await afs.endDaemon();
  await push(gitDir);
  const offline = await afs.json(["fetch", "--name", "m"]);
  assert.deepEqual([offline.behind, offline.diverged], [2, true]);
  assert.deepEqual(await distance(afs, "m"), [3, 2, true]);
  assert.equal(await afs.pid(), null);
});

cliTest("refresh: by itself, once for all mounts of a store, until it is to stop", async (afs) => {
  const gitDir = afs.at("srv", "repo.git");
  await makeRepo(gitDir);
  await using server = startGitServer({ root: afs.at("srv") });
  for (const name of ["a", "b"]) {
    await afs.ok(["mount", server.url("repo"), name, "--wait=history"]);
  }
  assert.equal((await statusOf(afs, "a")).remoteRefresh, "30s");
  for (const name of ["a", "b"]) {
    const set = await afs.json(["set-refresh", name, "--interval", "1s"]);
    assert.deepEqual([set.repo, set.remoteRefresh], [name, "1s"]);
  }
  await push(gitDir);
  for (const name of ["a", "b"]) {
    await waitFor(async () => (await distance(afs, name)).join() === "0,1,false", "refresh");
  }
  assert.match(await inMount(afs.at("a"), "status", "-sb"), /\[behind 1\]/);

  // Two requests an exchange, one exchange at a time, though two are mounted.
  server.resetCounters();
  await waitFor(() => server.counters().requests >= 8, "four refreshes");
  const { discovery, lsRefs, fetch } = server.counters();
  assert.ok(discovery - lsRefs <= 1 && fetch === 0, JSON.stringify(server.counters()));
  const at = server.requestLog.filter(({ kind }) => kind === "discovery").map(({ atMs }) => atMs);
  assert.ok(at.every((ms, i) => i === 0 || ms - (at[i - 1] ?? 0) >= 950), `asked at ${at}`);

  // The shortest interval counts; one that is never is left alone.
  await afs.ok(["set-refresh", "a", "--interval", "never"]);
  await push(gitDir);
  await waitFor(async () => (await distance(afs, "b")).join() === "0,2,false", "refresh");
  assert.deepEqual(await distance(afs, "a"), [0, 1, false]);
  await afs.ok(["set-refresh", "b", "--interval", "1h"]);
  assert.match((await afs.ok(["status", "b"])).stdout, / remote_refresh=1h\n$/);

  // Kept over a restart.
  await afs.endDaemon();
  assert.equal((await statusOf(afs, "a")).remoteRefresh, "never");
  await afs.ok(["set-refresh", "--name", "b", "--interval", "1s"]);
  await push(gitDir);
  await afs.startDaemon();
  await waitFor(async () => (await distance(afs, "b")).join() === "0,3,false", "refresh");
  // Unmounted: nobody asks. What was under way when it was unmounted has ended.
  await afs.ok(["unmount", "b"]);
  await waitFor(() => server.counters().inflight === 0, "end of the last");
  server.resetCounters();
  await new Promise((resolve) => setTimeout(resolve, 2500));
  assert.equal(server.counters().requests, 0);
});

cliTest("refresh: a remote that is down, refuses, or is gone; and back", async (afs) => {
  const gitDir = afs.at("srv", "repo.git");
  const commits = await makeRepo(gitDir);
  await using server = startGitServer({ root: afs.at("srv") });
  await afs.ok(["mount", server.url("repo"), "m", "--wait=history"]);
  await afs.ok(["set-refresh", "m", "--interval", "1s"]);
  server.set({ down: true });
  await waitFor(async () => (await statusOf(afs, "m")).result !== "ok", "failure");
  const down = await statusOf(afs, "m");
  assert.match(down.result, /^Cannot fetch from http.*cannot be reached/);
  assert.equal(down.state, "mounted");
  server.set({ down: false });
  await push(gitDir);
  await waitFor(async () => (await statusOf(afs, "m")).result === "ok", "success");
  assert.deepEqual(await distance(afs, "m"), [0, 1, false]);
  await afs.ok(["set-refresh", "m", "--interval", "never"]);
  server.set({ down: true });
  await afs.fails(["fetch", "m"], 4, /cannot be reached/);
  assert.match((await statusOf(afs, "m")).result, /cannot be reached/);
  assert.equal((await inMount(afs.at("m"), "rev-parse", "HEAD")).trim(), commits.at(-1));
  server.set({ down: false, login: { user: "someone", password: "unknown" } });
  await afs.fails(["fetch", "m"], 3, /needs a login/);
  server.set({ login: null });
  await Deno.rename(gitDir, `${gitDir}.gone`);
  await afs.fails(["fetch", "m"], 1, /no git repository there/);
  await Deno.rename(`${gitDir}.gone`, gitDir);
  assert.equal((await afs.json(["fetch", "m"])).behind, 1);
  assert.equal((await statusOf(afs, "m")).result, "ok");
  assert.equal(await inMount(afs.at("m"), "status", "--porcelain"), "");
  await afs.fails(["fetch", "--name", "nope"], 1, /"nope"/);
  await afs.fails(["set-refresh", "--name", "nope", "--interval", "1s"], 1, /"nope"/);
});

cliTest("refresh: with a depth it stays shallow; removing ends one that hangs", async (afs) => {
  const gitDir = afs.at("srv", "repo.git");
  await makeRepo(gitDir);
  await using server = startGitServer({ root: afs.at("srv") });
  await afs.ok(["mount", server.url("repo"), "m", "--depth", "1"]);
  await push(gitDir);
  assert.equal((await afs.json(["fetch", "m"])).refs, 1);
  const { history, ahead, behind } = await statusOf(afs, "m");
  assert.deepEqual([history, ahead, behind], ["shallow:1", null, null]);
  server.resetCounters();
  assert.match(await inMount(afs.at("m"), "status", "-sb"), /\[behind 1\]/);
  assert.equal((await inMount(afs.at("m"), "rev-list", "--count", "HEAD")).trim(), "1");
  assert.equal(server.counters().requests, 0);
  server.set({ hang: true });
  const fetching = afs.fails(["fetch", "m"], 1, /stopped/);
  await waitFor(() => server.counters().requests > 0, "request");
  await afs.ok(["remove-repo", "m"]);
  await fetching;
  await afs.endDaemon();
  await afs.assertNothingLeft();
});
