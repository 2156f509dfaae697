/** Cold reads far from each other. */

import { acquire, type Bench, goCold } from "../bench.ts";
import { coldReads } from "../child.ts";
import { scatteredFiles } from "../repository.ts";

const READS = 10;

export async function measureScattered(bench: Bench, round: number): Promise<void> {
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
  await daemon.stop();
}
