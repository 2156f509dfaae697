/**
 * Memory, in reads of their own: looking at it takes time. One more daemon reads a big file: it is
 * to pass through and not to pile up.
 */

import { Daemon, GUARD_MS } from "../afs.ts";
import { acquire, becomeIdle, type Bench, goCold, inChild, readEverything } from "../bench.ts";
import { peakMemory, treeMemory } from "../processes.ts";
import { settledTraffic } from "../server.ts";
import { makeBigBlobRepo } from "../../support/repos.ts";
import { git, sleep } from "../../support/run.ts";

const BIG_NAME = "big.git";
const BIG_BYTES = 512 << 20;
/** What was needed once may be let go. */
const REST_MS = 2_000;

export async function measureMemory(bench: Bench): Promise<void> {
  const { recorder } = bench;
  const { daemon } = await acquire(bench);
  await goCold(bench);
  await sleep(REST_MS);
  const idle = treeMemory(daemon.pid);
  recorder.afs("idlePss", idle.all.pss);
  recorder.afs("idleAnon", idle.all.anon);
  const peak = await peakMemory(daemon.pid, () => readEverything(daemon.mountPoint));
  recorder.afs("readAllPss", peak.all.pss);
  recorder.afs("readAllAnon", peak.all.anon);
  recorder.afs("readAllGitAnon", peak.children.anon);
  await sleep(REST_MS);
  recorder.afs("afterReadAllAnon", treeMemory(daemon.pid).all.anon);
  await daemon.stop();
}

/** Makes what `measureBigBlob` reads. */
export async function prepareBigBlob(serverRoot: string): Promise<void> {
  await makeBigBlobRepo(`${serverRoot}/${BIG_NAME}`, BIG_BYTES);
}

export async function measureBigBlob(bench: Bench): Promise<void> {
  const { recorder, world, server } = bench;
  const url = server.url(BIG_NAME);
  const daemon = await Daemon.start(world, bench.options.program);
  await goCold(bench, BIG_NAME);
  await daemon.addRepo(url, "small");
  await becomeIdle(bench, daemon);
  await goCold(bench, BIG_NAME);
  await sleep(REST_MS);
  const before = treeMemory(daemon.pid);
  let ms = 0;
  const peak = await peakMemory(daemon.pid, async () => {
    ms = await readBig(`${daemon.mountPoint}/big.bin`);
  });
  recorder.afs("bigBlob", ms, await settledTraffic(server.control));
  recorder.afs("bigBlobGrowth", peak.all.anon - before.all.anon);
  recorder.afs("bigBlobGitAnon", peak.children.anon);
  recorder.afs("bigBlobFile", peak.all.file - before.all.file);
  await daemon.stop();

  const clone = world.fresh("clone");
  await goCold(bench, BIG_NAME);
  const { durationMs } = await git(["clone", "--quiet", "--depth", "1", url, clone], {
    timeoutMs: GUARD_MS,
  });
  recorder.plain("bigBlob", durationMs + await readBig(`${clone}/big.bin`));
}

async function readBig(path: string): Promise<number> {
  const result = await inChild(["sh", "-c", 'cat "$1" | wc -c', "sh", path]);
  if (Number(result.stdout) !== BIG_BYTES) throw new Error(`${path}: ${result.stdout} bytes`);
  return result.durationMs;
}
