/** Cold reads far from each other, then git's own commands in a tree that is hardly read. */

import { acquire, type Bench, type Clone, goCold } from "../bench.ts";
import { coldReads } from "../child.ts";
import { GUARD_MS } from "../afs.ts";
import { scatteredFiles } from "../repository.ts";
import { resetTraffic, settledTraffic } from "../server.ts";
import { git } from "../../support/run.ts";

const READS = 10;

export async function measureScattered(bench: Bench, clone: Clone, round: number): Promise<void> {
  const { daemon } = await acquire(bench);
  await goCold(bench);
  const pathsFile = bench.world.fresh("paths");
  const paths = scatteredFiles(bench.repository, READS, round + 1);
  await Deno.writeTextFile(pathsFile, JSON.stringify(paths));
  const reads = await coldReads(daemon.mountPoint, bench.server.control, pathsFile);
  for (const { ms, requests, wants } of reads) {
    bench.recorder.afs("scattered", ms, { requests, wants });
    bench.recorder.afs("scatteredRequests", requests);
  }
  await measureGit(bench, daemon.mountPoint, clone.path);
  await daemon.stop();
}

async function measureGit(bench: Bench, mountPoint: string, clonePath: string): Promise<void> {
  const { recorder, server } = bench;
  const timed = async (path: string, ...args: string[]) => {
    const result = await git(["-C", path, ...args], { timeoutMs: GUARD_MS });
    return result.durationMs;
  };
  for (const id of ["statusFirst", "statusAgain"] as const) {
    await resetTraffic(server.control);
    const ms = await timed(mountPoint, "status", "--porcelain");
    recorder.afs(id, ms, await settledTraffic(server.control));
    recorder.plain(id, await timed(clonePath, "status", "--porcelain"));
  }
  for (let i = 0; i < 3; i++) {
    recorder.afs("log", await timed(mountPoint, "log", "-1"));
    recorder.plain("log", await timed(clonePath, "log", "-1"));
  }
}
