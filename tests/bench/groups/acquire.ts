/** From `add-repo` until two directories are listed, and a clone, by turns. */

import { acquire, type Bench, removeTree, shallowClone } from "../bench.ts";

/** So many samples in a round: they take a second, and vary. */
const TURNS = 3;

export async function measureAcquire(bench: Bench): Promise<void> {
  for (let turn = 0; turn < TURNS; turn++) {
    const { daemon } = await acquire(bench);
    await daemon.stop();
    const { path } = await shallowClone(bench);
    await removeTree(path);
  }
}
