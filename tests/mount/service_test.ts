/** The daemon as the service of a service manager: what it tells it, and when. */

import assert from "node:assert/strict";
import { DatagramReceiver } from "../support/datagrams.ts";
import { mountsBelow, run, waitFor } from "../support/run.ts";
import { cliTest, makeRepo } from "./cli_harness.ts";
import { without } from "./harness.ts";

const UNIT = decodeURIComponent(new URL("../../contrib/afs.service", import.meta.url).pathname);

cliTest(
  "READY=1 when what was mounted is mounted again, or has failed; then STOPPING=1",
  async (afs) => {
    await makeRepo(afs.at("repo.git"));
    const first = await afs.startDaemon();
    await afs.ok(["mount", afs.at("repo.git"), "good"]);
    await afs.ok(["mount", afs.at("repo.git"), "bad"]);
    assert.equal(await first.stop(), 0);
    await Deno.remove(afs.at("bad"), { recursive: true });
    await Deno.writeTextFile(afs.at("bad"), "somebody's file\n");
    for (const address of [afs.at("notify"), `@afs-test-${crypto.randomUUID()}`]) {
      using manager = new DatagramReceiver(address);
      Object.assign(afs.env, { NOTIFY_SOCKET: address, WATCHDOG_USEC: "400000" });
      const told: string[] = [];
      const hears = (message: string) =>
        waitFor(() => {
          told.push(...manager.received());
          return told.includes(message);
        }, message);
      const daemon = await afs.startDaemon();
      await hears("READY=1");
      // Whoever was told finds it mounted.
      assert.deepEqual(await mountsBelow(afs.dir.path), [afs.at("good")]);
      await hears("WATCHDOG=1");
      assert.equal(await daemon.stop(), 0);
      await hears("STOPPING=1");
      const rest = told.filter((message) => message !== "WATCHDOG=1");
      const ready = rest.indexOf("READY=1");
      assert.equal(rest[ready - 1], "STATUS=1 mounted, 1 failed", told.join(" "));
      assert.ok(rest.indexOf("STOPPING=1") > ready, told.join(" "));
      assert.equal(rest.filter((message) => message === "READY=1").length, 1);
    }
  },
);

cliTest("no process that the daemon starts knows the service manager's socket", async (afs) => {
  await makeRepo(afs.at("repo.git"));
  using manager = new DatagramReceiver(afs.at("notify"));
  const seen = afs.at("seen");
  // Git as the daemon finds it: what its environment says, and then the real one.
  const { stdout } = await run("sh", ["-c", "command -v git"]);
  await Deno.mkdir(afs.at("bin"));
  await Deno.writeTextFile(
    afs.at("bin", "git"),
    `#!/bin/sh\necho "$NOTIFY_SOCKET$WATCHDOG_USEC$WATCHDOG_PID." >>${seen}\n` +
      `exec ${stdout.trim()} "$@"\n`,
    { mode: 0o755 },
  );
  Object.assign(afs.env, {
    PATH: `${afs.at("bin")}:${afs.env["PATH"]}`,
    NOTIFY_SOCKET: afs.at("notify"),
    WATCHDOG_USEC: "60000000",
  });
  await afs.startDaemon();
  await afs.ok(["mount", afs.at("repo.git"), "m"], { env: { NOTIFY_SOCKET: "" } });
  const environments = new Set((await Deno.readTextFile(seen)).trim().split("\n"));
  assert.deepEqual([...environments], ["."]);
  assert.ok(manager.received().includes("READY=1"));
});

cliTest("a daemon that a verb puts into the background tells nobody", async (afs) => {
  await makeRepo(afs.at("repo.git"));
  using manager = new DatagramReceiver(afs.at("notify"));
  const env = { NOTIFY_SOCKET: afs.at("notify"), WATCHDOG_USEC: "20000" };
  await afs.ok(["mount", afs.at("repo.git"), "m"], { env });
  await afs.ok(["unmount", "m"], { env });
  await afs.endDaemon();
  assert.deepEqual(manager.received(), []);
});

const noAnalyze = await without("systemd-analyze");
Deno.test({
  name: `the unit is one that systemd takes${noAnalyze === null ? "" : ` (skipped: ${noAnalyze})`}`,
  ignore: noAnalyze !== null,
  fn: async () => {
    const dir = await Deno.makeTempDir();
    try {
      // The program must be there, and it is not where the unit has it.
      const unit = (await Deno.readTextFile(UNIT)).replaceAll("/usr/local/bin/afs", "/bin/true");
      await Deno.writeTextFile(`${dir}/afs.service`, unit);
      const { stderr } = await run("systemd-analyze", ["verify", `${dir}/afs.service`]);
      assert.doesNotMatch(stderr, /afs\.service/);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
});
