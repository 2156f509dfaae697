/**
 * A mount of two commits of which one directory's tree is nowhere, so that whoever removes that
 * directory waits, with its parent locked. For tests of a notifier that waits for such a one.
 *
 *     deno run -A notifier_main.ts DIRECTORY
 *
 * Mounts at DIRECTORY/mnt and prints "mounted". Then a line is "switch" or "unmount"; what came of
 * either is printed when it is over.
 */

import { MountHandle, spawnMountWorker } from "../../src/mount/handle.ts";
import type { Oid } from "../../src/git/oid.ts";
import { setupLog } from "../../src/log.ts";
import type { HostPath } from "../../src/path.ts";
import { BaseStore } from "../../src/snapshot/store.ts";
import { changeDirectory } from "../../src/sys/mod.ts";
import { fakeOid, rawTree } from "../fakes/fake_objects.ts";
import { linesOf } from "../support/lines.ts";

export const REPO_ID = "0123456789abcdef";

/**
 * Its file is one of two blobs, and `missing` a directory whose tree nobody has, as is the one in
 * `held`.
 */
function putRoot(base: BaseStore, number: number): Oid {
  const root = fakeOid(number);
  const held = fakeOid(200);
  const missing = { mode: "40000", name: "missing", oid: fakeOid(100) };
  base.putTrees([[held, rawTree([missing])], [
    root,
    rawTree([
      { mode: "100644", name: "file", oid: fakeOid(10 + number) },
      { mode: "40000", name: "held", oid: held },
      missing,
    ]),
  ]]);
  base.putSizes([[fakeOid(10 + number), number]]);
  return root;
}

if (import.meta.main) {
  setupLog();
  changeDirectory("/");
  const [dir = ""] = Deno.args;
  const folders = ["mnt", "overlay", "packs"].map((name) => `${dir}/${name}`);
  for (const path of folders) Deno.mkdirSync(path, { recursive: true });
  const basePath = `${dir}/base.sqlite`;
  const base = new BaseStore(basePath as HostPath);
  const [from, to] = [putRoot(base, 1), putRoot(base, 2)];
  base.close();
  const handle = new MountHandle(
    {
      repoId: REPO_ID,
      repoName: "repo",
      mountPoint: `${dir}/mnt`,
      source: "test",
      basePath,
      overlayDir: `${dir}/overlay`,
      xattrs: false,
      umask: 0o022,
      readOnly: false,
      packDirs: [`${dir}/packs`],
      convertedDir: `${dir}/converted`,
      contextsPath: `${dir}/contexts.sqlite`,
      uid: 0,
      gid: 0,
      userGitDir: "/nowhere",
      isGitDirElsewhere: false,
      stateRoot: dir,
    },
    { objectFormat: "sha1", rootTreeId: from, baseTimeSeconds: 1_700_000_000 },
    spawnMountWorker([dir]),
    () => {},
  );
  await handle.started();
  const say = (value: unknown) => console.log(JSON.stringify(value));
  say("mounted");
  for await (const line of linesOf(Deno.stdin.readable)) {
    if (JSON.parse(line) === "switch") {
      handle.switchTo({ from, to, token: `${REPO_ID}-0` }).then(
        ({ outcome, reason }) => say({ outcome, reason }),
        (error) => say({ outcome: "gone", reason: String(error) }),
      );
    } else {
      await handle.unmount({ lazy: true });
      say({ closed: await handle.closed });
    }
  }
}
