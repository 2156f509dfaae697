/** `afs shutdown`: ends the daemon, and waits for its end. */

import { Command } from "commander";
import { call, DaemonEnded, NoDaemon } from "../control/client.ts";
import { systemClock } from "../clock.ts";
import { Failure } from "../failure.ts";
import { type Layout, layoutOf } from "../repo/layout.ts";
import { daemonEnd, isLockFree } from "./daemon_process.ts";
import { noDaemon } from "./going_on.ts";
import { stateRoot } from "./host_paths.ts";
import { addJsonOption, type JsonOption } from "./options.ts";
import { printJson, progressView, say } from "./output.ts";

/** The daemon gives itself ten seconds. */
const END_MS = 15_000;
const POLL_MS = 50;

export function shutdownCommand(): Command {
  const command = new Command("shutdown")
    .description(
      "unmount everything, also what is in use, and end the daemon; what was mounted is mounted " +
        "again by the next one",
    );
  return addJsonOption(command).action(shutdown);
}

async function shutdown({ json }: JsonOption): Promise<void> {
  const layout = layoutOf(stateRoot());
  const view = progressView();
  try {
    const pid = await askToEnd(layout, (progress) => view.show(progress));
    if (!await daemonEnd(layout, END_MS)) {
      throw new Failure(
        "failed",
        `Cannot shut down: the daemon${pid === null ? "" : ` (pid ${pid})`} still runs after ` +
          `${END_MS / 1000} s; see its log, and kill it`,
      );
    }
    view.end();
    if (json) printJson({ pid });
    else say(`the daemon${pid === null ? "" : ` (pid ${pid})`} has ended`);
  } finally {
    view.end();
  }
}

/** Its pid; null: it was ending already. Throws Failure (no daemon runs). */
async function askToEnd(
  { socketPath, lockPath }: Layout,
  onProgress: (progress: { phase: string; percent: number | null }) => void,
): Promise<number | null> {
  const until = performance.now() + END_MS;
  let pid: number | null = null;
  let wasThere = false;
  while (performance.now() < until) {
    try {
      ({ pid } = await call(socketPath, "ping", {}));
      await call(socketPath, "shutdown", {}, { onProgress });
      return pid;
    } catch (error) {
      if (!(error instanceof NoDaemon || error instanceof DaemonEnded)) throw error;
      // It has ended before it could answer, which is what was asked for.
      if (pid !== null || error instanceof DaemonEnded) return pid;
    }
    if (isLockFree(lockPath)) {
      if (wasThere) return null;
      throw noDaemon("shut down");
    }
    // One that starts will answer, one that stops will let go.
    wasThere = true;
    await systemClock.sleep(POLL_MS);
  }
  return null;
}
