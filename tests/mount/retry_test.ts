/** What is tried again when a repository is acquired, and what is not; by requests. */

import assert from "node:assert/strict";
import { startGitServer } from "../support/git_server.ts";
import type { GitServer, GitServerSettings } from "../support/git_server_api.ts";
import { run, waitFor } from "../support/run.ts";
import { type Cli, cliTest, makeRepo } from "./cli_harness.ts";
import type { Daemon } from "./harness.ts";

const LOGIN = { user: "someone", password: "t0ken" };
const PHASES = [
  "afs: Checking",
  "afs: Fetching the newest commit",
  "afs: Fetching again, since the connection failed",
  "afs: Fetching the newest commit",
  "afs: Preparing the work tree",
  "afs: Mounting",
];

interface World extends AsyncDisposable {
  readonly server: GitServer;
  readonly daemon: Daemon;
}

async function serve(afs: Cli): Promise<World> {
  await makeRepo(afs.at("srv", "repo.git"));
  const server = startGitServer({ root: afs.at("srv") });
  const daemon = await afs.startDaemon();
  return { server, daemon, [Symbol.asyncDispose]: () => server.close() };
}

/** Mounts while the server has a fault, which goes when the first attempt has failed. */
async function survives(
  afs: Cli,
  { server, daemon }: World,
  fault: Partial<GitServerSettings>,
  name: string,
): Promise<void> {
  // A remote of its own, so that there is no store yet.
  await Deno.symlink("repo.git", afs.at("srv", `${name}.git`));
  const ours = async (msg: string) => {
    return (await daemon.logged(msg)).filter(({ repo }) => repo === name);
  };
  const settings = { ...server.settings };
  server.set(fault);
  const args = ["mount", server.url(name), afs.at(name), "--refresh", "never"];
  const mounting = afs.run(args);
  await Promise.race([
    mounting,
    waitFor(
      async () => (await ours("Could not fetch; trying again")).length > 0,
      `failed attempt of ${name}`,
      { timeoutMs: 120_000 },
    ),
  ]);
  server.set(settings);
  const { code, stderr } = await mounting;
  assert.equal(code, 0, `${name}: ${stderr}`);
  assert.deepEqual(stderr.trimEnd().split("\n"), PHASES, name);
  const failed = await ours("Could not fetch; trying again");
  assert.deepEqual(failed.map(({ attempt, level }) => [attempt, level]), [[1, "warning"]], name);
  assert.match(String(failed[0]?.["error"]), /^Cannot mount .*; check the network/, name);
  const after = await ours("Fetched after all");
  assert.deepEqual(after.map(({ attempt }) => attempt), [2], name);
  assert.equal((await run("cat", [afs.at(name, "file.txt")])).stdout, "content 3\n");
}

cliTest("a server that is down, and then is not", async (afs) => {
  await using world = await serve(afs);
  await survives(afs, world, { down: true }, "down");
});

cliTest("a connection that is cut, wherever that is", async (afs) => {
  await using world = await serve(afs);
  for (const bytes of [0, 3, 20, 60, 100, 200, 300]) {
    await survives(afs, world, { truncateAfterBytes: bytes }, `cut${bytes}`);
  }
});

cliTest(
  "a server that takes requests and says nothing, and one that stops in the middle",
  async (afs) => {
    await using world = await serve(afs);
    await survives(afs, world, { hang: true }, "hang");
    await survives(afs, world, { stallAfterBytes: 100 }, "stall");
  },
);

cliTest("what is refused is asked once, by our client and by git", async (afs) => {
  await using world = await serve(afs);
  const { server, daemon } = world;
  const cases: [string, string[], number, RegExp, number[]][] = [
    ["no repository", [server.url("none")], 1, /no git repository there/, [404, 404]],
    ["no branch", [server.url("repo"), "--ref", "none"], 1, /no branch or tag/, [200, 200, 200]],
    // git asks without the login first.
    ["a login", [server.url("repo", LOGIN)], 3, /needs a login/, [401, 401, 401]],
    ["no login", [server.url("repo")], 3, /needs a login/, [401, 401]],
  ];
  for (const [name, args, code, pattern, statuses] of cases) {
    server.set({ login: /login/.test(name) ? { user: "some", password: "other" } : null });
    server.resetCounters();
    const [url = "", ...flags] = args;
    await afs.fails(["mount", url, "m", ...flags], code, pattern);
    assert.deepEqual(server.requestLog.map(({ status }) => status), statuses, name);
  }
  assert.deepEqual(await daemon.logged("Could not fetch; trying again"), []);
  // Three attempts of one that stays down, each by our client and by git.
  server.set({ login: null, down: true });
  server.resetCounters();
  const { code, stderr } = await afs.run(["mount", server.url("repo"), "m"]);
  assert.equal(code, 4, stderr);
  assert.deepEqual(server.requestLog.map(({ status }) => status), Array(6).fill(503));
  assert.equal((await daemon.logged("Could not fetch; trying again")).length, 2);
});
