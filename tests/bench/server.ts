/** The delayed git server in its own process, and what it counts. */

import { CHECKOUT } from "./options.ts";
import type { Traffic } from "./figures.ts";
import { killGroup, sleep, waitFor } from "../support/run.ts";
import type { World } from "./world.ts";

export interface Server {
  url(name: string): string;
  /** Base of the control interface, for other processes. */
  readonly control: string;
}

/** Serves the repositories of a folder, each round trip delayed. */
export async function startServer(world: World, root: string, rttMs: number): Promise<Server> {
  const portFile = world.fresh("port");
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--no-check", "--no-prompt", "-A", "--config", `${CHECKOUT}/deno.json`],
      `${CHECKOUT}/tests/support/git_server_main.ts`,
      ...["--root", root, "--port-file", portFile, "--rtt-ms", String(rttMs)],
    ],
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
    detached: true,
  }).spawn();
  world.keepProcess(child.pid);
  world.own(async () => {
    const late = setTimeout(() => killGroup(child.pid), 5_000);
    try {
      child.kill("SIGTERM");
    } catch {
      // It has ended.
    }
    await child.status;
    clearTimeout(late);
  });
  const port = await waitFor(() => Deno.readTextFile(portFile), "git server");
  const base = `http://127.0.0.1:${port}`;
  return { control: base, url: (name) => `${base}/${name}` };
}

interface Counters extends Traffic {
  readonly inflight: number;
}

export async function traffic(control: string): Promise<Counters> {
  const response = await fetch(`${control}/__ctl__/stats`);
  return await response.json();
}

export async function resetTraffic(control: string): Promise<void> {
  const response = await fetch(`${control}/__ctl__/reset`);
  await response.body?.cancel();
}

/** What has arrived since the last reset, once nothing has come for a while. */
export async function settledTraffic(control: string, quietMs = 250): Promise<Traffic> {
  const until = performance.now() + 120_000;
  let last = await traffic(control);
  let quietSince = performance.now();
  while (performance.now() - quietSince < quietMs) {
    if (performance.now() > until) throw new Error("The server never came to rest");
    await sleep(25);
    const now = await traffic(control);
    if (now.requests !== last.requests || now.inflight > 0) quietSince = performance.now();
    last = now;
  }
  return { requests: last.requests, wants: last.wants };
}
