/** From nothing to a tree that answers: `afs mount` starts the daemon, too. */

import { Daemon } from "../afs.ts";
import { becomeIdle, type Bench, goCold } from "../bench.ts";
import { REPO_NAME } from "../repository.ts";
import { traffic } from "../server.ts";

export async function measureMount(bench: Bench): Promise<void> {
  const daemon = Daemon.none(bench.world, bench.options.program);
  await goCold(bench);
  const { durationMs } = await daemon.mount(
    bench.server.url(REPO_NAME),
    bench.repository.subdirectory,
  );
  bench.recorder.afs("mountFromNothing", durationMs, await traffic(bench.server.control));
  await becomeIdle(bench, daemon);
  await daemon.stop();
}
