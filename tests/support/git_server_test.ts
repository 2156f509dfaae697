import assert from "node:assert/strict";
import { startGitServer } from "./git_server.ts";
import type { GitServer, GitServerOptions } from "./git_server_api.ts";
import { makeBigBlobRepo, makeHostileRepo, makeOddRepo, makeSizedRepo } from "./repos.ts";
import { git, run, RunError, sleep, type TempDir, tempDir, waitFor } from "./run.ts";

const LOGIN = { user: "us er", password: "p:w/ä@" };

/** A server over a directory with one small repository `small.git` of 3 commits, 40 files. */
async function withServer(
  options: Omit<GitServerOptions, "root">,
  body: (server: GitServer, dir: TempDir) => Promise<void>,
): Promise<void> {
  await using dir = await tempDir();
  await makeSizedRepo(dir.at("root", "small.git"), {
    files: 40,
    dirs: 10,
    blobBytes: 2000,
    commits: 3,
  });
  await using server = startGitServer({ ...options, root: dir.at("root") });
  await body(server, dir);
}

async function missingCount(gitDir: string): Promise<number> {
  const { stdout } = await git([
    "-C",
    gitDir,
    "rev-list",
    "--objects",
    "--all",
    "--missing=print",
  ]);
  return stdout.split("\n").filter((line) => line.startsWith("?")).length;
}

Deno.test("git server: a clone works and is counted", () =>
  withServer({}, async (server, dir) => {
    await git(["clone", "-q", server.url("small"), dir.at("clone")]);
    assert.equal(await missingCount(dir.at("clone")), 0);
    const counters = server.counters();
    assert.equal(counters.requests, 3);
    assert.equal(counters.discovery, 1);
    assert.equal(counters.lsRefs, 1);
    assert.equal(counters.fetch, 1);
    assert.equal(counters.wants, 2); // git asks for HEAD and for main, which are one oid
    assert.equal(counters.connections, 1);
    assert.equal(counters.errors, 0);
    assert.equal(counters.inflight, 0);
    assert.ok(counters.bytesOut > 40 * 1000);
    const log = server.requestLog;
    assert.deepEqual(log.map((entry) => entry.kind), ["discovery", "lsRefs", "fetch"]);
    assert.deepEqual(log.map((entry) => entry.fresh), [true, false, false]);
    assert.ok(log.every((entry) => entry.outcome === "done" && entry.status === 200));
    const head = await git(["-C", dir.at("clone"), "rev-parse", "HEAD"]);
    const oid = head.stdout.trim();
    assert.deepEqual(log[2]?.wantOids, [oid, oid]);
    server.resetCounters();
    assert.deepEqual(server.counters().requests, 0);
    assert.deepEqual(server.requestLog, []);
  }));

Deno.test("git server: partial clone, lazy fetch, and a server without filters", () =>
  withServer({}, async (server, dir) => {
    const clone = dir.at("clone.git");
    const args = ["clone", "-q", "--bare", "--filter=blob:none"];
    await git([...args, server.url("small.git"), clone]);
    const missing = await missingCount(clone);
    assert.ok(missing >= 38, `${missing} missing`);
    assert.equal(server.requestLog.at(-1)?.filter, "blob:none");

    server.resetCounters();
    await git(["-C", clone, "archive", "--output=/dev/null", "HEAD"]);
    assert.equal(server.counters().wants, missing - (await missingCount(clone)));

    server.set({ filter: false });
    server.resetCounters();
    const plain = await git([...args, server.url("small.git"), dir.at("plain.git")]);
    assert.match(plain.stderr, /filtering not recognized/);
    assert.equal(await missingCount(dir.at("plain.git")), 0);
  }));

Deno.test("git server: version 0", () =>
  withServer({ protocolV2: false }, async (server, dir) => {
    await git(["clone", "-q", server.url("small"), dir.at("clone")]);
    assert.deepEqual(server.requestLog.map((entry) => entry.kind), ["discovery", "fetch"]);
    assert.equal(server.counters().wants, 1);
    // Only version 0 looks at allowAnySHA1InWant.
    const { stdout } = await git(["-C", dir.at("clone"), "rev-parse", "HEAD^{tree}"]);
    const fetch = ["fetch", "-q", server.url("small"), stdout.trim()];
    await git(["init", "-q", dir.at("empty")]);
    server.set({ anySha1InWant: false });
    await assert.rejects(git(["-C", dir.at("empty"), ...fetch]), RunError);
    server.set({ anySha1InWant: true });
    await git(["-C", dir.at("empty"), ...fetch]);
  }));

Deno.test("git server: sha256, gzip bodies and many wants", async () => {
  await using dir = await tempDir();
  const repo = await makeOddRepo(dir.at("odd.git"), { objectFormat: "sha256" });
  await using server = startGitServer({ root: dir.path });
  const clone = dir.at("clone.git");
  await git(["clone", "-q", "--bare", "--filter=blob:none", server.url("odd"), clone]);
  const missing = await missingCount(clone);
  assert.ok(missing > 9000);
  server.resetCounters();
  await git(["-C", clone, "archive", "--output=/dev/null", "main"]);
  assert.equal(server.counters().wants, missing - (await missingCount(clone)));
  const fetch = server.requestLog.find((entry) => entry.kind === "fetch");
  assert.ok(fetch !== undefined);
  assert.ok(fetch.wantOids.every((oid) => oid.length === 64));
  assert.ok(fetch.bytesIn < fetch.wantOids.length * 60, "the body was not compressed");
  await git(["-C", clone, "cat-file", "-e", repo.headOid]);
});

Deno.test("git server: login", () =>
  withServer({ login: LOGIN }, async (server, dir) => {
    await assert.rejects(
      git(["clone", "-q", server.url("small"), dir.at("a")]),
      /could not read|Authentication failed/,
    );
    await assert.rejects(
      git(["clone", "-q", server.url("small", { user: "us er", password: "no" }), dir.at("a")]),
      /Authentication failed/,
    );
    server.resetCounters();
    await git(["clone", "-q", server.url("small", LOGIN), dir.at("a")]);
    assert.equal(server.requestLog[0]?.status, 401);
    assert.equal(server.counters().errors, 1);
    const anonymous = await fetch(server.url("small/info/refs?service=git-upload-pack"));
    assert.equal(anonymous.status, 401);
    assert.match(anonymous.headers.get("www-authenticate") ?? "", /^Basic realm=/);
    await anonymous.body?.cancel();
  }));

Deno.test("git server: down, unknown repositories, redirects", () =>
  withServer({ down: true }, async (server, dir) => {
    const clone = () => git(["clone", "-q", server.url("small"), dir.at("a")]);
    await assert.rejects(clone(), /503/);
    assert.equal(server.counters().errors, 1);
    server.set({ down: false });
    await assert.rejects(git(["clone", "-q", server.url("other"), dir.at("a")]), /not found/);
    for (const name of ["..", "a/../small", "", "%2e%2e/root"]) {
      const answer = await fetch(`${server.url("")}${name}/info/refs?service=git-upload-pack`);
      assert.ok(answer.status === 404 || name.includes("small"), name);
      await answer.body?.cancel();
    }
    await using second = startGitServer({ root: "/nowhere", redirectTo: server.url("") });
    await git(["clone", "-q", second.url("small"), dir.at("b")]);
    await clone();
  }));

Deno.test("git server: latency per response and per connection", () =>
  withServer({ rttMs: 100 }, async (server, dir) => {
    const { durationMs } = await git(["clone", "-q", server.url("small"), dir.at("a")]);
    // 2 rtt for the connection, 3 requests.
    assert.ok(durationMs >= 495, `${durationMs} ms`);
    assert.ok(durationMs < 5000, `${durationMs} ms`);
    assert.ok((server.requestLog[0]?.ms ?? 0) >= 295);
    assert.ok((server.requestLog[1]?.ms ?? 0) >= 95);
  }));

Deno.test("git server: hang, then go on", () =>
  withServer({ hang: true }, async (server, dir) => {
    await assert.rejects(
      git(["clone", "-q", server.url("small"), dir.at("a")], { timeoutMs: 500 }),
      (error) => error instanceof RunError && error.timedOut,
    );
    await waitFor(() => server.counters().inflight === 0, "end of the request of a killed client");
    assert.equal(server.requestLog[0]?.outcome, "gone");
    assert.equal(server.counters().aborted, 1);
    const cloning = git(["clone", "-q", server.url("small"), dir.at("b")]);
    await waitFor(() => server.counters().inflight === 1, "second request");
    server.set({ hang: false });
    await cloning;
  }));

Deno.test("git server: close ends requests that hang", () =>
  withServer({ hang: true }, async (server, dir) => {
    const cloning = assert.rejects(git(["clone", "-q", server.url("small"), dir.at("a")]));
    await waitFor(() => server.counters().inflight === 1, "request");
    await server.close();
    await cloning;
    await server.close();
  }));

Deno.test("git server: truncated, stalled and corrupted packs", () =>
  withServer({ truncateAfterBytes: 20_000 }, async (server, dir) => {
    const clone = (to: string, timeoutMs = 30_000) =>
      git(["clone", "-q", server.url("small"), dir.at(to)], { timeoutMs });
    await assert.rejects(clone("a"), /early EOF|hung up|invalid index-pack|transfer closed/);
    const cut = server.requestLog.at(-1);
    assert.equal(cut?.outcome, "truncated");
    assert.equal(cut?.bytesOut, 20_000);

    server.set({ truncateAfterBytes: null, stallAfterBytes: 20_000 });
    await assert.rejects(
      clone("b", 700),
      (error) => error instanceof RunError && error.timedOut,
    );
    assert.equal(server.requestLog.at(-1)?.bytesOut, 20_000);
    const cloning = clone("c");
    await waitFor(() =>
      server.requestLog.at(-1)?.outcome === "pending" &&
      server.requestLog.at(-1)?.bytesOut === 20_000, "stalled response");
    server.set({ stallAfterBytes: null });
    await cloning;

    server.set({ corruptAtByte: 20_000 });
    await assert.rejects(clone("d"), /corrupt|inflate|invalid index-pack|mismatch/);
    server.set({ corruptAtByte: null });
    await clone("e");
  }));

Deno.test("git server: push", () =>
  withServer({}, async (server, dir) => {
    await git(["clone", "-q", server.url("small"), dir.at("a")]);
    await git(["-C", dir.at("a"), "commit", "-q", "--allow-empty", "-m", "new"]);
    const random = crypto.getRandomValues(new Uint8Array(60_000));
    for (let i = 0; i < 50; i++) {
      await Deno.writeFile(
        dir.at("a", `f${i}`),
        random.map((b) => b + i),
      );
    }
    await git(["-C", dir.at("a"), "add", "."]);
    await git(["-C", dir.at("a"), "commit", "-q", "-m", "3 MB"]);
    const push = () => git(["-C", dir.at("a"), "push", "-q", "origin", "HEAD:refs/heads/new"]);
    await assert.rejects(push(), /403/);
    server.set({ allowPush: true });
    server.resetCounters();
    await push(); // chunked: larger than http.postBuffer
    assert.ok(server.counters().bytesIn > 2 << 20);
    const oid = (await git(["-C", dir.at("a"), "rev-parse", "HEAD"])).stdout;
    const pushed = await git(["-C", dir.at("root", "small.git"), "rev-parse", "new"]);
    assert.equal(pushed.stdout, oid);
  }));

Deno.test("git server: a hostile repository is served, a nameless entry kills git", async () => {
  await using dir = await tempDir();
  const repo = await makeHostileRepo(dir.at("hostile.git"));
  await makeHostileRepo(dir.at("nameless.git"), { emptyName: true });
  await using server = startGitServer({ root: dir.path });
  for (const filter of [[], ["--filter=blob:none"], ["--depth=1"]]) {
    const to = dir.at(`clone-${filter}.git`);
    await git(["clone", "-q", "--bare", ...filter, server.url("hostile"), to]);
    assert.equal((await git(["-C", to, "rev-parse", "HEAD"])).stdout.trim(), repo.headOid);
  }
  await assert.rejects(git(["clone", "-q", "--bare", server.url("nameless"), dir.at("n.git")]));
});

Deno.test("git server: four clients stream a large blob, the event loop stays free", async () => {
  await using dir = await tempDir();
  await makeBigBlobRepo(dir.at("big.git"), 40 << 20);
  await using server = startGitServer({ root: dir.path });
  let worst = 0;
  let last = performance.now();
  const tick = setInterval(() => {
    worst = Math.max(worst, performance.now() - last);
    last = performance.now();
  }, 5);
  try {
    await Promise.all(
      [1, 2, 3, 4].map((i) =>
        git(["clone", "-q", "--bare", server.url("big"), dir.at(`c${i}.git`)])
      ),
    );
  } finally {
    clearInterval(tick);
  }
  assert.ok(server.counters().bytesOut > 160 << 20);
  assert.equal(server.counters().connections, 4);
  assert.ok(worst < 2000, `the event loop stood still for ${worst} ms`);
});

Deno.test("git server: as a process with control", async () => {
  await using dir = await tempDir();
  await makeSizedRepo(dir.at("root", "s.git"), {
    files: 3,
    dirs: 1,
    blobBytes: 100,
    repack: false,
  });
  const main = new URL("./git_server_main.ts", import.meta.url).pathname;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", main, "--root", dir.at("root"), "--rtt-ms", "30"].concat(
      "--port-file",
      dir.at("port"),
    ),
    stdout: "null",
    stderr: "inherit",
  }).spawn();
  try {
    const port = await waitFor(() => Deno.readTextFile(dir.at("port")), "port file");
    const base = `http://127.0.0.1:${port}`;
    await git(["clone", "-q", `${base}/s`, dir.at("clone")]);
    const stats = await (await fetch(`${base}/__ctl__/stats`)).json();
    assert.equal(stats.requests, 3);
    assert.equal(stats.connections, 1);
    const set = await (await fetch(`${base}/__ctl__/set?rttMs=1&down=1&login=a:b`)).json();
    assert.deepEqual([set.rttMs, set.down, set.login], [1, true, "set"]);
    const bad = await fetch(`${base}/__ctl__/set?nonsense=1`);
    assert.equal(bad.status, 400);
    await bad.body?.cancel();
    await assert.rejects(git(["clone", "-q", `${base}/s`, dir.at("clone2")]), /503/);
    await (await fetch(`${base}/__ctl__/reset`)).text();
    assert.equal((await (await fetch(`${base}/__ctl__/stats`)).json()).requests, 0);
  } finally {
    child.kill("SIGTERM");
    assert.equal((await child.status).code, 0);
  }
  await sleep(0);
  await run("true");
});
