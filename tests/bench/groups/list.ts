/** A cold `ls -lR`: the size of every file is asked for. */

import { acquire, type Bench, goCold, inChild } from "../bench.ts";
import { settledTraffic } from "../server.ts";

export async function measureList(bench: Bench): Promise<void> {
  const { daemon } = await acquire(bench);
  await goCold(bench);
  const script = 'cd "$1" && ls -lR >/dev/null';
  const { durationMs } = await inChild(["sh", "-c", script, "sh", daemon.mountPoint]);
  const seen = await settledTraffic(bench.server.control);
  bench.recorder.afs("listCold", durationMs, seen);
  bench.recorder.afs("listColdRequests", seen.requests);
  await daemon.stop();
}
