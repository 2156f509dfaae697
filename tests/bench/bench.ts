/** What every group of figures works with. */

import { Daemon, GUARD_MS } from "./afs.ts";
import type { Recorder } from "./figures.ts";
import type { Options } from "./options.ts";
import { REPO_NAME, type Repository } from "./repository.ts";
import { resetTraffic, type Server, settledTraffic, traffic } from "./server.ts";
import { git, run, type RunResult } from "../support/run.ts";
import type { World } from "./world.ts";

export interface Bench {
  readonly options: Options;
  readonly world: World;
  readonly server: Server;
  readonly repository: Repository;
  readonly recorder: Recorder;
  /** Whether caches can be dropped. */
  readonly isRoot: boolean;
}

/**
 * Makes what follows cold: nothing of a mount or a work tree is in memory. The programs and what
 * the server serves are: neither is what is measured, and both sides need them.
 */
export async function goCold(bench: Bench, name = REPO_NAME): Promise<void> {
  if (bench.isRoot) {
    await run("sh", ["-c", "sync && echo 3 >/proc/sys/vm/drop_caches"], { timeoutMs: 120_000 });
  }
  await run(bench.options.program, ["--version"], { okCodes: "any" });
  await git(["ls-remote", "--quiet", bench.server.url(name), "HEAD"]);
  const packs = `${bench.world.dir.path}/served/${name}/objects`;
  await run("sh", ["-c", 'cat "$1"/pack/* >/dev/null; tar --version >/dev/null', "sh", packs]);
  await resetTraffic(bench.server.control);
}

/** `add-repo` on a fresh state root with a running daemon; both figures of it are recorded. */
export async function acquire(bench: Bench): Promise<{ daemon: Daemon; ms: number }> {
  const daemon = await Daemon.start(bench.world, bench.options.program);
  await goCold(bench);
  const { durationMs } = await daemon.addRepo(
    bench.server.url(REPO_NAME),
    bench.repository.subdirectory,
  );
  bench.recorder.afs("addRepo", durationMs, await traffic(bench.server.control));
  await becomeIdle(bench, daemon);
  return { daemon, ms: durationMs };
}

/** The history is here, and no request is under way. */
export async function becomeIdle(bench: Bench, daemon: Daemon): Promise<void> {
  await daemon.historyIsHere();
  await settledTraffic(bench.server.control);
}

export interface Clone {
  readonly path: string;
  readonly ms: number;
}

/** A shallow clone; its time is a sample of plain git for `addRepo`. */
export async function shallowClone(bench: Bench): Promise<Clone> {
  const path = bench.world.fresh("clone");
  await goCold(bench);
  const { durationMs } = await git(
    ["clone", "--quiet", "--depth", "1", bench.server.url(REPO_NAME), path],
    { timeoutMs: GUARD_MS },
  );
  bench.recorder.plain("addRepo", durationMs);
  return { path, ms: durationMs };
}

export async function removeTree(path: string): Promise<void> {
  await run("rm", ["-rf", "--one-file-system", "--", path], { timeoutMs: 120_000 });
}

/** Reads every byte as tar does, git's own files left out. The bytes of the archive come back. */
export async function readEverything(path: string): Promise<{ ms: number; bytes: number }> {
  const script = 'cd "$1" && tar cf - --exclude=./.git . | wc -c';
  const result = await inChild(["sh", "-c", script, "sh", path]);
  return { ms: result.durationMs, bytes: Number(result.stdout) };
}

/** A command on a mount or a work tree. */
export function inChild(command: readonly [string, ...string[]]): Promise<RunResult> {
  const [program, ...args] = command;
  return run(program, args, { cwd: "/", timeoutMs: GUARD_MS, env: { LC_ALL: "C" } });
}
