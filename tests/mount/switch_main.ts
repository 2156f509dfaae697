/**
 * Serves one registered repository as a daemon does, and switches its work tree on demand: for
 * tests of the mount's side of a switch alone. Nobody watches HEAD here.
 *
 *     deno run -A switch_main.ts NAME
 *
 * A line of JSON on standard input is a request, one on standard output its answer; the end of the
 * input ends it. The first line that it prints says that it is mounted.
 */

import { Mounts } from "../../src/daemon/mounts.ts";
import { treeDifference } from "../../src/git/import.ts";
import type { Oid } from "../../src/git/oid.ts";
import { setupLog } from "../../src/log.ts";
import { layoutOf } from "../../src/repo/layout.ts";
import { userGitDirOf } from "../../src/repo/owner.ts";
import { openRegistry } from "../../src/repo/registry.ts";
import type { HostPath } from "../../src/path.ts";
import { changeDirectory } from "../../src/sys/mod.ts";
import { linesOf } from "../support/lines.ts";

export interface SwitchRequestJson {
  readonly from: string;
  readonly to: string;
  readonly token: string;
}

export interface SwitchedJson {
  readonly outcome: string;
  readonly reason: string | null;
  readonly token: string;
  readonly paths: readonly string[];
  readonly inos: readonly number[];
  readonly directories: readonly string[];
  readonly timeSeconds: number;
  /** In the mount worker. */
  readonly durationMs: number;
  /** Until the kernel knew. */
  readonly wholeMs: number;
}

function split(bytes: ArrayBuffer): string[] {
  return new TextDecoder().decode(bytes).split("\0").slice(0, -1);
}

if (import.meta.main) {
  setupLog();
  changeDirectory("/");
  const layout = layoutOf(Deno.env.get("ARTIFACT_FS_ROOT") as HostPath);
  using registry = openRegistry(layout);
  const record = registry.byName(Deno.args[0] ?? "");
  if (record === null) throw new Error("not registered");
  const { id, objectFormat } = record;
  const mounts = new Mounts({
    layout,
    hydrationConcurrency: 2,
    onFetched() {},
    onMounted() {},
    onClosed() {},
    onChange() {},
    onUnmounted: (_repoId, cause) => console.error("unmounted", cause),
  });
  await mounts.mount(record);
  const answer = (value: unknown) => console.log(JSON.stringify(value));
  answer("mounted");
  const source = {
    dir: userGitDirOf(record, layout),
    viewDir: layout.repo(id).viewDir,
    storeGitDir: layout.store(record.storeId).gitDir,
    objectFormat,
  };
  const handle = async ({ from, to, token }: SwitchRequestJson): Promise<SwitchedJson> => {
    const { treeOids } = await treeDifference(source, from as Oid, to as Oid);
    await mounts.loadTrees(id, treeOids, from as Oid, to as Oid);
    const startedAt = performance.now();
    const switched = await mounts.switchTo(id, { from: from as Oid, to: to as Oid, token });
    return {
      ...switched,
      paths: split(switched.paths),
      inos: [...new Float64Array(switched.inos)],
      directories: split(switched.directories),
      wholeMs: performance.now() - startedAt,
    };
  };
  for await (const line of linesOf(Deno.stdin.readable)) {
    // Not waited for: the end may come while it is at it.
    handle(JSON.parse(line)).then(answer, (error) => answer({ error: String(error) }));
  }
  await mounts.closeAll();
}
