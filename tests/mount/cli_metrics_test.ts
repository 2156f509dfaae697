/** Metrics and health of the compiled binary, on the control socket and on a port. */

import assert from "node:assert/strict";
import { startGitServer } from "../support/git_server.ts";
import { run, waitFor } from "../support/run.ts";
import { type Cli, cliTest, makeRepo } from "./cli_harness.ts";
import { without } from "./harness.ts";

const skip = await without("curl");

function curlTest(name: string, body: (afs: Cli) => Promise<void>): void {
  if (skip === null) cliTest(name, body);
  else Deno.test({ name: `${name} (skipped: ${skip})`, ignore: true, fn: () => {} });
}

/** As docs/operating.md says it; status and text. */
async function get(afs: Cli, path: string, ...where: string[]): Promise<[number, string]> {
  const target = where.length > 0 ? where : ["--unix-socket", afs.socketPath, `http://afs${path}`];
  const { stdout } = await run("curl", ["-sg", "-w", "\n%{http_code}", ...target], {
    timeoutMs: 60_000,
  });
  const at = stdout.lastIndexOf("\n");
  return [Number(stdout.slice(at + 1)), stdout.slice(0, at)];
}

/** Samples by name with labels. */
async function metricsOf(afs: Cli): Promise<Map<string, number>> {
  const [status, text] = await get(afs, "/metrics");
  assert.equal(status, 200);
  const samples = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(samples.map((line) => {
    const at = line.lastIndexOf(" ");
    return [line.slice(0, at), Number(line.slice(at + 1))];
  }));
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

curlTest("metrics count what was done, and hold no path, URL or secret", async (afs) => {
  await makeRepo(afs.at("srv", "repo.git"));
  const login = { user: "user", password: "hunter22hunter22" };
  await using server = startGitServer({ root: afs.at("srv"), login });
  await afs.startDaemon();
  const before = await metricsOf(afs);
  assert.equal(before.get('afs_repos{state="mounted"}'), 0);
  const url = server.url("repo.git").replace("//", "//user:hunter22hunter22@");
  await afs.ok(["mount", url, "m", "--wait=history", "--refresh", "never"]);
  const script = 'cat "$1/file.txt" >/dev/null; printf 12345 >"$1/new"; rmdir "$1/dir" || true';
  await afs.sh(script, [afs.at("m")]);
  await waitFor(
    async () => ((await metricsOf(afs)).get("afs_hydration_queue") ?? 1) === 0,
    "empty queue",
  );
  await afs.sh('cd "$1"; git status >/dev/null; git status >/dev/null', [afs.at("m")]);
  await afs.ok(["switch", "feature", afs.at("m")]);
  await afs.ok(["fetch", "m"]);
  const { requests } = (await afs.json(["status", "m"])).repos[0];
  const after = await metricsOf(afs);
  const value = (sample: string) => after.get(sample) ?? 0;
  assert.equal(value('afs_repos{state="mounted"}'), 1);
  assert.ok(value('afs_fuse_requests_total{repo="m",op="LOOKUP"}') > 0);
  assert.ok(value('afs_fuse_requests_total{repo="m",op="WRITE"}') > 0);
  assert.ok(value('afs_fuse_request_errors_total{repo="m",errno="ENOTEMPTY"}') > 0);
  // What status says, which leaves out what nobody waits for.
  const unanswered = ["FORGET", "BATCH_FORGET", "INTERRUPT", "NOTIFY_REPLY"];
  let sum = 0;
  for (const [sample, count] of after) {
    const op = /^afs_fuse_requests_total\{repo="m",op="(\w+)"\}$/.exec(sample)?.[1];
    if (op !== undefined && !unanswered.includes(op)) sum += count;
  }
  assert.ok(sum >= requests, `${sum} and ${requests}`);
  assert.equal(value('afs_overlay_files{repo="m"}'), 1);
  assert.equal(value('afs_overlay_bytes{repo="m"}'), 5);
  const batches = [...after].filter(([name]) => name.startsWith("afs_hydration_batches_total"));
  assert.ok(batches.reduce((all, [, count]) => all + count, 0) > 0);
  assert.ok(value('afs_monitor_queries_total{repo="m"}') >= 2);
  assert.equal(value('afs_switches_total{repo="m",result="done"}'), 1);
  assert.equal(value('afs_refreshes_total{repo="m",result="nothing_new"}'), 1);
  assert.equal(value('afs_threads{kind="mount"}'), 1);
  assert.equal(value('afs_threads{kind="hydrator"}'), 1);
  assert.ok(value("process_resident_memory_bytes") > 10_000_000);
  assert.ok(value("process_threads") > 3);
  assert.ok(value("process_cpu_seconds_total") > 0);
  assert.ok(value("afs_uptime_seconds") > 0);
  const [, text] = await get(afs, "/metrics");
  assert.doesNotMatch(text, /hunter22|:\/\/|repo\.git/);
  assert.ok(!text.includes(afs.dir.path));
  assert.match(text, /^afs_build_info\{version="\d/m);
  await afs.ok(["remove-repo", "m", "--force"]);
  const [, gone] = await get(afs, "/metrics");
  assert.doesNotMatch(gone, /repo="m"/);
});

curlTest("readyz follows what is wanted; healthz answers all along", async (afs) => {
  await makeRepo(afs.at("srv", "repo.git"));
  await using server = startGitServer({ root: afs.at("srv"), hang: true });
  await afs.startDaemon();
  assert.deepEqual(await get(afs, "/readyz"), [200, "ok\n"]);
  const flags = ["--mount-root", afs.at("mnt"), "--refresh", "never"];
  await afs.ok([
    "add-repo",
    "--async",
    "--name",
    "m",
    "--remote",
    server.url("repo.git"),
    ...flags,
  ]);
  assert.deepEqual(await get(afs, "/readyz"), [503, "m: not prepared\n"]);
  assert.deepEqual(await get(afs, "/healthz"), [200, "ok\n"]);
  server.set({ hang: false });
  await waitFor(async () => (await get(afs, "/readyz"))[0] === 200, "ready", {
    timeoutMs: 120_000,
  });
  await afs.abortConnection(afs.at("mnt", "m"));
  await waitFor(async () => (await get(afs, "/readyz"))[1] === "m: not mounted\n", "unready");
  assert.deepEqual(await get(afs, "/healthz"), [200, "ok\n"]);
  await afs.ok(["remount", "--name", "m"]);
  assert.deepEqual(await get(afs, "/readyz"), [200, "ok\n"]);
  // What is not wanted does not count.
  await afs.ok(["unmount", "--name", "m"]);
  assert.deepEqual(await get(afs, "/readyz"), [200, "ok\n"]);
  assert.equal((await get(afs, "/nothing"))[0], 404);
});

curlTest(
  "--metrics-port: both loopback addresses, for no other host; one that is taken",
  async (afs) => {
    const port = freePort();
    const daemon = await afs.startDaemon({ args: ["--metrics-port", String(port)] });
    const loopback = [`http://127.0.0.1:${port}`, `http://localhost:${port}`];
    const hasIpv6 = await Deno.readTextFile("/proc/net/if_inet6").then(
      (text) => text !== "",
      () => false,
    );
    for (const origin of hasIpv6 ? [...loopback, `http://[::1]:${port}`] : loopback) {
      assert.deepEqual(await get(afs, "", `${origin}/healthz`), [200, "ok\n"], origin);
      const [status, text] = await get(afs, "", `${origin}/metrics`);
      assert.equal(status, 200);
      assert.match(text, /^afs_uptime_seconds \d/m);
      const rebound = ["-H", `Host: evil.example:${port}`, `${origin}/metrics`];
      assert.equal((await get(afs, "", ...rebound))[0], 403);
      assert.equal((await get(afs, "", "-X", "POST", `${origin}/v1/shutdown`))[0], 404);
      assert.equal((await get(afs, "", "-X", "POST", `${origin}/metrics`))[0], 405);
    }
    // Nowhere else.
    const { stdout } = await run("sh", [
      "-c",
      'cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -i ":$1 .* 0A "',
      "sh",
      port.toString(16).toUpperCase().padStart(4, "0"),
    ]);
    for (const line of stdout.trim().split("\n")) {
      assert.match(line, /: (0100007F|0{24}01000000):/, line);
    }
    const second = { env: { ARTIFACT_FS_ROOT: afs.at("second") } };
    const args = ["daemon", "--metrics-port", String(port)];
    const refused = await afs.run(args, second);
    assert.equal(refused.code, 6);
    assert.match(
      refused.stderr,
      new RegExp(`^afs: Cannot serve metrics on 127.0.0.1 port ${port}: it is in use; .*$`, "m"),
    );
    assert.equal(await daemon.stop(), 0);
  },
);
