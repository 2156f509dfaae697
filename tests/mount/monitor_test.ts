/**
 * The file monitor against the kernel: a call that the mount has answered is over only when the
 * kernel, in the caller's name, has changed what it holds; git may look before.
 */

import assert from "node:assert/strict";
import { type Daemon, fixture, type Lab, mountTest, type Parked, without } from "./harness.ts";
import { makeSizedRepo } from "../support/repos.ts";

const repo = fixture((path) =>
  makeSizedRepo(path, { files: 200, dirs: 10, blobBytes: 100, commits: 1 })
);

/**
 * Runs "$@" in the lowest class, and busy processes, which stop at first, on the same processor; in
 * one session, because sessions share the processor as equals. "$0": where their ids go.
 */
const HOLD = `hogs=
for i in 1 2 3 4 5 6; do
  taskset -c 0 sh -c 'kill -STOP $$; while :; do :; done' &
  hogs="$hogs $!"
done
echo $hogs >"$0"
taskset -c 0 chrt -i 0 "$@"
code=$?
kill -KILL $hogs
exit $code`;

async function mounted(lab: Lab): Promise<{ daemon: Daemon; mountPoint: string; paths: string[] }> {
  await lab.share((await repo()).gitDir, "repo");
  const daemon = await lab.startDaemon();
  const mountPoint = await lab.mount(lab.serve().url("repo"), "repo", "--wait=history");
  const { stdout } = await lab.sh('cd "$1"; git status --porcelain >&2; git ls-files', [
    mountPoint,
  ]);
  await lab.sh('cd "$1"; ls -lR >/dev/null; git -c core.fsmonitor=false status -s; git status -s', [
    mountPoint,
  ]);
  return { daemon, mountPoint, paths: stdout.trimEnd().split("\n") };
}

async function status(lab: Lab, mountPoint: string, ...options: string[]): Promise<string> {
  const script = 'cd "$1"; shift; git "$@" status --porcelain -uall | sort';
  return (await lab.sh(script, [mountPoint, ...options])).stdout;
}

/** What git says with the mount's help and without is the same. */
async function assertSame(lab: Lab, mountPoint: string): Promise<string> {
  const said = await status(lab, mountPoint);
  // Without writing the index: git is not to learn it from this.
  const options = ["--no-optional-locks", "-c", "core.fsmonitor=false", "-c"];
  const so = await status(lab, mountPoint, ...options, "core.untrackedCache=false");
  assert.equal(said, so);
  return so;
}

/**
 * Runs a command of one call whose process gets no processor from the mount's answer on, while
 * `work` is done. Whether it was kept waiting for so long.
 */
async function heldUp(
  lab: Lab,
  { daemon, mountPoint }: { readonly daemon: Daemon; readonly mountPoint: string },
  command: readonly string[],
  work: () => Promise<void>,
): Promise<boolean> {
  Deno.kill(daemon.pid, "SIGSTOP");
  try {
    const pids = lab.at("hogs");
    const call = lab.park("sh", "-c", HOLD, pids, ...command);
    let isOver = false;
    call.exited.then(() => isOver = true);
    await lab.waitForRequests(mountPoint, 1);
    const hogs = (await Deno.readTextFile(pids)).trim().split(" ").map(Number);
    for (const pid of hogs) Deno.kill(pid, "SIGCONT");
    Deno.kill(daemon.pid, "SIGCONT");
    await work();
    const wasHeld = !isOver;
    if (wasHeld) { for (const pid of hogs) Deno.kill(pid, "SIGKILL"); }
    assert.equal(await call.exited, 0, command.join(" "));
    return wasHeld;
  } finally {
    Deno.kill(daemon.pid, "SIGCONT");
  }
}

const skip = await without("chrt");

mountTest("monitor: what the kernel has not finished is told again", async (lab, t) => {
  const at = await mounted(lab);
  const { mountPoint, paths } = at;
  // Nothing but the call itself is asked of the mount.
  await lab.sh('cd "$1"; ls -l another more || true', [mountPoint]);
  const [gone, from, over, linked] = paths.map((path) => `${mountPoint}/${path}`);
  assert.ok(gone !== undefined && from !== undefined && over !== undefined && linked !== undefined);
  const rename = ["perl", "-e", "rename $ARGV[0], $ARGV[1] or die"];
  const another = `${mountPoint}/another`;
  const calls = [
    ["unlink", gone],
    [...rename, from, over],
    ["link", linked, another],
    [...rename, another, `${mountPoint}/more`],
  ];
  for (const command of calls) {
    await t.step(command.join(" ").replaceAll(mountPoint, ""), async () => {
      const wasHeld = await heldUp(lab, at, command, async () => {
        // Not what is untracked: a listing waits for the call.
        await lab.sh('cd "$1"; git status -uno; git status -uno', [mountPoint]);
      });
      if (!wasHeld) console.log("It was over before git looked");
      assert.notEqual(await assertSame(lab, mountPoint), "");
      assert.notEqual(await assertSame(lab, mountPoint), "");
    });
  }
}, { skip });
