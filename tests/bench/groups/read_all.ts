/** Every byte once, cold; then the same tree again and again, warm. */

import {
  acquire,
  type Bench,
  type Clone,
  goCold,
  inChild,
  readEverything,
  removeTree,
  shallowClone,
} from "../bench.ts";
import { warmLoops } from "../child.ts";
import { settledTraffic } from "../server.ts";

export async function measureReadAll(bench: Bench): Promise<void> {
  const { recorder } = bench;
  const { daemon, ms: acquireMs } = await acquire(bench);
  await goCold(bench);
  const cold = await readEverything(daemon.mountPoint);
  recorder.afs("readAll", cold.ms, await settledTraffic(bench.server.control));
  recorder.afs("readAllFromNothing", acquireMs + cold.ms);

  const clone = await shallowClone(bench);
  const plain = await readEverything(clone.path);
  recorder.plain("readAll", clone.ms + plain.ms);
  recorder.plain("readAllFromNothing", clone.ms + plain.ms);
  if (cold.bytes !== plain.bytes) {
    throw new Error(`tar wrote ${cold.bytes} bytes of the mount and ${plain.bytes} of the clone`);
  }
  await measureWarm(bench, daemon.mountPoint, clone);
  await removeTree(clone.path);
  await daemon.stop();
}

async function measureWarm(bench: Bench, mountPoint: string, clone: Clone): Promise<void> {
  const { recorder, options } = bench;
  // The mount has been read; so is the clone, after the caches were dropped for both.
  await readEverything(clone.path);
  await readEverything(mountPoint);
  const { walk, read } = await warmLoops(options.quick ? 5 : 15, mountPoint, clone.path);
  for (const us of walk.tree) recorder.afs("warmWalk", us);
  for (const us of walk.reference) recorder.plain("warmWalk", us);
  for (const us of read.tree) recorder.afs("warmRead", us);
  for (const us of read.reference) recorder.plain("warmRead", us);

  const script = `cd "$1" && find . -path ./.git -prune -o -printf '%s %T@ %i\\n' >/dev/null`;
  const find = async (path: string) => (await inChild(["sh", "-c", script, "sh", path])).durationMs;
  await find(mountPoint);
  await find(clone.path);
  for (let i = 0; i < (options.quick ? 5 : 10); i++) {
    recorder.afs("warmFind", await find(mountPoint));
    recorder.plain("warmFind", await find(clone.path));
  }
}
