/** Reaching the daemon of a state root, and starting one in the background when none runs. */

import { call, NoDaemon } from "../control/client.ts";
import { systemClock } from "../clock.ts";
import { EXIT_CODES, Failure } from "../failure.ts";
import { gitVersion } from "../git/process.ts";
import type { HostPath } from "../path.ts";
import type { Layout } from "../repo/layout.ts";
import { makeStateRoot } from "../repo/state_root.ts";
import { lockFile } from "../sys/mod.ts";

/** A daemon that takes longer to listen is given up. */
const START_MS = 30_000;
const POLL_MS = 20;
/** Of the log of a daemon that died at its start. */
const LOG_TAIL_BYTES = 16 * 1024;

/** Whether a daemon answers. Throws Failure for a socket that may not be used. */
export async function daemonAnswers(layout: Layout): Promise<boolean> {
  try {
    await call(layout.socketPath, "ping", {});
    return true;
  } catch (error) {
    if (error instanceof NoDaemon) return false;
    throw error;
  }
}

/**
 * Makes sure that a daemon answers: two at the same moment start one, since the second finds the
 * lock taken. Returns whether one was started; `onStart` is called before. Throws Failure with the
 * last words of a daemon that died.
 */
export async function ensureDaemon(layout: Layout, onStart: () => void): Promise<boolean> {
  if (await daemonAnswers(layout)) return false;
  // The daemon needs it, and says so too late for a state root not to be made.
  await gitVersion();
  await makeStateRoot(layout);
  onStart();
  const until = performance.now() + START_MS;
  let child = startDaemon(layout);
  while (performance.now() < until) {
    if (await daemonAnswers(layout)) return true;
    const ended = await Promise.race([child.status, systemClock.sleep(POLL_MS)]);
    if (ended === undefined) continue;
    if (await daemonAnswers(layout)) return false;
    if (ended.code !== EXIT_CODES.busy) throw startFailure(layout);
    // Another one starts (and will answer), or stops (and lets the lock go).
    await systemClock.sleep(POLL_MS);
    if (isLockFree(layout.lockPath)) child = startDaemon(layout);
    else child = { status: new Promise(() => {}) };
  }
  throw new Failure(
    "failed",
    `Cannot start the daemon: it does not answer after ${START_MS / 1000} s; see ${layout.logPath}`,
  );
}

/** Ends a daemon that has no repository and nothing to do, and waits for its end. Never throws. */
export async function stopIfUnused(layout: Layout): Promise<void> {
  try {
    const { stopping } = await call(layout.socketPath, "stop-if-unused", {});
    if (stopping) await daemonEnd(layout);
  } catch {
    // It has ended already, or somebody else uses it.
  }
}

/** Waits until no daemon has the lock; false when it takes too long. */
export async function daemonEnd(layout: Layout, timeoutMs = START_MS): Promise<boolean> {
  const until = performance.now() + timeoutMs;
  while (!isLockFree(layout.lockPath)) {
    if (performance.now() > until) return false;
    await systemClock.sleep(POLL_MS);
  }
  return true;
}

/** Whether no daemon runs, starts or stops; a state root that does not exist has none. */
export function isLockFree(lockPath: HostPath): boolean {
  if (!exists(lockPath)) return true;
  const lock = lockFile(lockPath);
  lock?.close();
  return lock !== null;
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

/**
 * In a session of its own, so that no terminal ends it. A shell opens the log, since Deno cannot
 * give a child a file of ours as standard error, and replaces itself with the daemon.
 */
function startDaemon(layout: Layout): { readonly status: Promise<Deno.CommandStatus> } {
  const program = Deno.build.standalone
    ? [Deno.execPath()]
    : [Deno.execPath(), "run", "-A", "--unstable-worker-options", Deno.mainModule];
  const child = new Deno.Command("sh", {
    args: ["-c", SCRIPT, "sh", layout.logPath, ...program, "daemon", "--background"],
    env: { ARTIFACT_FS_ROOT: layout.stateRoot },
    cwd: "/",
    stdin: "null",
    stdout: "null",
    stderr: "null",
    detached: true,
  }).spawn();
  child.unref();
  return child;
}

const SCRIPT = 'umask 077; log=$1; shift; exec "$@" 2>>"$log"';

/** What the daemon's log says last. */
function startFailure(layout: Layout): Failure {
  const said = lastError(tailOf(layout.logPath));
  return said ?? new Failure("fatal", `Cannot start the daemon: see ${layout.logPath}`);
}

/**
 * The last line of a log as a failure; null when there is none. Lines of the runtime are not JSON.
 */
export function lastError(log: string): Failure | null {
  const line = log.trimEnd().split("\n").at(-1) ?? "";
  if (line === "") return null;
  try {
    const { error, kind } = JSON.parse(line) as { error?: unknown; kind?: unknown };
    if (typeof error !== "string") return null;
    const known = typeof kind === "string" && Object.hasOwn(EXIT_CODES, kind);
    return new Failure(known ? kind as keyof typeof EXIT_CODES : "fatal", error);
  } catch {
    return new Failure("fatal", `Cannot start the daemon: ${line}`);
  }
}

function tailOf(path: string): string {
  try {
    const bytes = Deno.readFileSync(path);
    return new TextDecoder().decode(bytes.subarray(-LOG_TAIL_BYTES));
  } catch {
    return "";
  }
}
