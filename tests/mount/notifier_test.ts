/**
 * A notification that waits for a process which waits for the mount's reply: the mount goes on, and
 * none of its ends hangs, neither an orderly one nor a kill.
 */

import assert from "node:assert/strict";
import { detachMount } from "../../src/sys/mod.ts";
import { LineChild } from "../support/lines.ts";
import { waitFor } from "../support/run.ts";
import { type Lab, mountTest, type Parked } from "./harness.ts";

interface Blocked {
  readonly server: LineChild;
  readonly mountPoint: string;
  readonly waiting: Parked;
}

/** A thread of the process waits for a lock of the kernel. */
async function hasWaitingThread(pid: number): Promise<boolean> {
  for await (const { name } of Deno.readDir(`/proc/${pid}/task`)) {
    const status = await Deno.readTextFile(`/proc/${pid}/task/${name}/status`).catch(() => "");
    if (/^State:\s+D/m.test(status)) return true;
  }
  return false;
}

async function block(lab: Lab): Promise<Blocked> {
  const main = decodeURIComponent(new URL("./notifier_main.ts", import.meta.url).pathname);
  const options = { env: lab.env, logPath: lab.at("server.log") };
  const server = new LineChild(main, [lab.at("served")], options);
  assert.equal(await server.next(), "mounted");
  const mountPoint = lab.at("served", "mnt");
  await lab.sh('ls "$1"; stat "$1/file"', [mountPoint]);
  const waiting = lab.park("rmdir", `${mountPoint}/missing`);
  await lab.waitForRequests(mountPoint, 1);
  await server.send("switch");
  await waitFor(() => hasWaitingThread(server.pid), "a notifier that waits");
  return { server, mountPoint, waiting };
}

mountTest("notifier: the mount goes on, and its end lets go of who waits", async (lab) => {
  const { server, mountPoint, waiting } = await block(lab);
  // The root is locked, but its attributes can be asked for.
  await lab.sh('stat -f "$1"; stat "$1"', [mountPoint]);
  assert.ok(await hasWaitingThread(server.pid));
  await server.send("unmount");
  const answers = [await server.next(), await server.next()];
  assert.ok(answers.some((each) => (each as { outcome?: string }).outcome !== undefined));
  assert.ok(answers.some((each) => typeof (each as { closed?: string }).closed === "string"));
  assert.equal(await waiting.exited, 1, "rmdir failed");
  assert.equal(await server.finish(), 0);
});

mountTest("notifier: who waits for it is let go when he is killed", async (lab) => {
  const { server, waiting } = await block(lab);
  waiting.kill("SIGKILL");
  assert.equal(await waiting.exited, 137);
  assert.deepEqual(await server.next(), { outcome: "done", reason: null });
  await server.send("unmount");
  assert.equal(typeof (await server.next() as { closed?: string }).closed, "string");
  assert.equal(await server.finish(), 0);
});

mountTest("notifier: an abort ends it", async (lab) => {
  const { server, mountPoint, waiting } = await block(lab);
  await lab.abortConnection(mountPoint);
  const { outcome } = await server.next() as { outcome: string };
  assert.ok(["done", "gone"].includes(outcome));
  assert.equal(await waiting.exited, 1);
  assert.equal(await server.finish(), 0);
});

mountTest("notifier: a killed daemon's dead mount is taken away by force", async (lab) => {
  const { server, mountPoint, waiting } = await block(lab);
  Deno.kill(server.pid, "SIGKILL");
  // As the next daemon does before it mounts there.
  await detachMount(mountPoint);
  assert.equal(await server.finish(), 128 + 9);
  assert.equal(await waiting.exited, 1);
});
