/**
 * A notification that waits for a process which waits for the mount's reply: the mount goes on, and
 * none of its ends hangs, neither an orderly one nor a kill.
 */

import assert from "node:assert/strict";
import { detachMount } from "../../src/sys/mod.ts";
import { REPO_ID } from "./notifier_main.ts";
import { LineChild } from "../support/lines.ts";
import { firstToken, MONITOR_DIR, syntheticDirName } from "../../src/monitor_names.ts";
import { sleep, waitFor } from "../support/run.ts";
import { type Lab, mountTest, type Parked } from "./harness.ts";

interface Blocked {
  readonly server: LineChild;
  readonly mountPoint: string;
  readonly waiting: Parked;
}

/** So often one thread must be seen waiting: for the disk it does not take so long. */
const LOOKS = 10;
const LOOK_MS = 10;

/** A thread of the process waits for a lock of the kernel. */
async function hasWaitingThread(pid: number): Promise<boolean> {
  let threads = await waitingThreads(pid);
  for (let look = 1; look < LOOKS && threads.size > 0; look++) {
    await sleep(LOOK_MS);
    threads = threads.intersection(await waitingThreads(pid));
  }
  return threads.size > 0;
}

async function waitingThreads(pid: number): Promise<Set<string>> {
  const waiting = new Set<string>();
  for await (const { name } of Deno.readDir(`/proc/${pid}/task`)) {
    const status = await Deno.readTextFile(`/proc/${pid}/task/${name}/status`).catch(() => "");
    if (/^State:\s+D/m.test(status)) waiting.add(name);
  }
  return waiting;
}

interface Served {
  readonly server: LineChild;
  readonly mountPoint: string;
}

async function serve(lab: Lab): Promise<Served> {
  const main = decodeURIComponent(new URL("./notifier_main.ts", import.meta.url).pathname);
  const options = { env: lab.env, logPath: lab.at("server.log") };
  const server = new LineChild(main, [lab.at("served")], options);
  assert.equal(await server.next(), "mounted");
  const mountPoint = lab.at("served", "mnt");
  await lab.sh('ls "$1"; stat "$1/file"', [mountPoint]);
  return { server, mountPoint };
}

/** Somebody holds a directory, and waits for the network. */
async function hold(lab: Lab, mountPoint: string, directory = mountPoint): Promise<Parked> {
  const waiting = lab.park("rmdir", `${directory}/missing`);
  await lab.waitForRequests(mountPoint, 1);
  return waiting;
}

async function block(lab: Lab): Promise<Blocked> {
  const { server, mountPoint } = await serve(lab);
  const waiting = await hold(lab, mountPoint);
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

/**
 * What the file monitor says. Not while the root is held: should the kernel have dropped the name
 * of the monitor's directory, it has to look there. Each time
 * asked as somebody else.
 */
function monitorOf(lab: Lab, mountPoint: string) {
  const directory = `${mountPoint}/${syntheticDirName(REPO_ID)}/${MONITOR_DIR}`;
  let asker = 0;
  return async (since: string) => {
    const { stdout } = await lab.sh('cat "$1"', [`${directory}/t-${since}~${++asker}`]);
    const [token = "", ...paths] = stdout.split("\0").slice(0, -1);
    return { token, paths };
  };
}

mountTest("notifier: an answer of the file monitor waits for no network", async (lab) => {
  const { server, mountPoint } = await serve(lab);
  const ask = monitorOf(lab, mountPoint);
  await lab.sh('touch "$1/held/one"', [mountPoint]);
  const first = await ask(firstToken(REPO_ID));
  assert.deepEqual(first.paths, ["held/one"]);
  assert.notEqual(first.token, firstToken(REPO_ID));
  await lab.sh('touch "$1/held/two"', [mountPoint]);
  const waiting = await hold(lab, mountPoint, `${mountPoint}/held`);
  for (let i = 0; i < 3; i++) {
    // The same token: the kernel may still show what was there before.
    assert.deepEqual(await ask(first.token), { token: first.token, paths: ["held/two"] });
    assert.ok(await hasWaitingThread(server.pid));
  }
  waiting.kill("SIGKILL");
  assert.equal(await waiting.exited, 137);
  await waitFor(async () => (await ask(first.token)).token !== first.token, "a newer token");
  const { token } = await ask(first.token);
  assert.deepEqual(await ask(token), { token, paths: [] });
  await server.send("unmount");
  assert.equal(typeof (await server.next() as { closed?: string }).closed, "string");
  assert.equal(await server.finish(), 0);
});

mountTest("notifier: a mount goes while an answer waits for a directory", async (lab) => {
  const { server, mountPoint } = await serve(lab);
  const ask = monitorOf(lab, mountPoint);
  const { token } = await ask(firstToken(REPO_ID));
  await lab.sh('touch "$1/held/one"', [mountPoint]);
  const waiting = await hold(lab, mountPoint, `${mountPoint}/held`);
  const asked = ask(token).catch(() => null);
  await waitFor(() => hasWaitingThread(server.pid), "a barrier that waits");
  await server.send("unmount");
  assert.equal(typeof (await server.next() as { closed?: string }).closed, "string");
  await asked;
  assert.equal(await waiting.exited, 1, "rmdir failed");
  assert.equal(await server.finish(), 0);
});
