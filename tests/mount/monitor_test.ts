/**
 * The file monitor against the kernel: a call that the mount has answered is over only when the
 * kernel, in the caller's name, has changed what it holds; git may look before.
 */

import assert from "node:assert/strict";
import { type Daemon, fixture, type Lab, mountTest, without } from "./harness.ts";
import { makeSizedRepo } from "../support/repos.ts";

const repo = fixture((path) =>
  makeSizedRepo(path, { files: 200, dirs: 10, blobBytes: 100, commits: 1 })
);

/**
 * Runs "$@" in the lowest class, and busy processes, which stop at first, on the same processor; in
 * one session, because sessions share the processor as equals. "$0": where their ids go.
 */
const HOLD = `hogs=
cpu=$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')
for i in 1 2 3; do
  taskset -c $cpu sh -c 'kill -STOP $$; while :; do :; done' &
  hogs="$hogs $!"
done
echo $hogs >"$0"
taskset -c $cpu chrt -i 0 "$@"
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
  return { daemon, mountPoint, paths: stdout.trimEnd().split("\n") };
}

/** The kernel knows all names and attributes, and git believes all files. */
async function prepare(lab: Lab, mountPoint: string): Promise<void> {
  const script = 'cd "$1"; git -c core.fsmonitor=false status; git status; ' +
    "ls -lR; ls -l elsewhere || true; git status";
  await lab.sh(script, [mountPoint]);
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
 * Runs a command of one call whose process gets hardly any processor from the mount's first answer
 * on, and has git look until it is over. How often git could look.
 */
async function heldUp(
  lab: Lab,
  { daemon, mountPoint }: { readonly daemon: Daemon; readonly mountPoint: string },
  command: readonly string[],
): Promise<number> {
  Deno.kill(daemon.pid, "SIGSTOP");
  try {
    const pids = lab.at("hogs");
    const call = lab.park("sh", "-c", HOLD, pids, ...command);
    let isOver = false;
    call.exited.then(() => isOver = true);
    await lab.waitForRequests(mountPoint, 1);
    for (const pid of (await Deno.readTextFile(pids)).trim().split(" ")) {
      Deno.kill(Number(pid), "SIGCONT");
    }
    Deno.kill(daemon.pid, "SIGCONT");
    let count = 0;
    // Not for what is untracked: a listing waits for the call.
    for (; !isOver; count++) await lab.sh('cd "$1"; git status -uno', [mountPoint]);
    assert.equal(await call.exited, 0, command.join(" "));
    return count - 1;
  } finally {
    Deno.kill(daemon.pid, "SIGCONT");
  }
}

const skip = await without("chrt");

function directoryOf(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf("/"), 0));
}

const RENAME = ["perl", "-e", "rename $ARGV[0], $ARGV[1] or die"];

mountTest("monitor: what the kernel has not finished is told again", async (lab, t) => {
  const at = await mounted(lab);
  const { mountPoint, paths } = at;
  // Each call in directories of its own: of what one has changed the kernel would ask first.
  const dirs = [...new Set(paths.filter((path) => path.includes("/")).map(directoryOf))];
  const [gone, from, over, moved] = dirs.map((dir) =>
    `${mountPoint}/${paths.find((path) => directoryOf(path) === dir)}`
  );
  assert.ok(gone !== undefined && from !== undefined && over !== undefined && moved !== undefined);
  const calls = {
    "unlink": ["unlink", gone],
    "rename of a file onto another": [...RENAME, from, over],
    "rename of a directory": [...RENAME, directoryOf(moved), `${mountPoint}/elsewhere`],
  };
  for (const [what, command] of Object.entries(calls)) {
    await t.step(what, async () => {
      await prepare(lab, mountPoint);
      const count = await heldUp(lab, at, command);
      if (count < 1) console.log("It was over before git could look");
      await assertSame(lab, mountPoint);
    });
  }
}, { skip });

/** Moves, replaces, links and removes the files of a directory, and leaves few as they were. */
const HAMMER = `cd "$1"
set -- $(find . -maxdepth 1 -type f)
for round in 1 2 3; do
  for name; do
    mv "$name" "$name.away"
    echo "$round" >"$name"
    mv -f "$name.away" "$name"
    ln "$name" "$name.link"
    rm "$name"
    mkdir "$name"
    mv "$name.link" "$name/in"
    mv "$name" "$name.dir"
    mv "$name.dir/in" "$name"
    rmdir "$name.dir"
  done
done
while [ $# -ge 4 ]; do
  rm "$1"
  mv "$2" "$2.moved"
  echo more >>"$3"
  shift 4
done`;

mountTest("monitor: what many change while git looks is what git says in the end", async (lab) => {
  const { mountPoint, paths } = await mounted(lab);
  await prepare(lab, mountPoint);
  const dirs = [...new Set(paths.filter((path) => path.includes("/")).map(directoryOf))].slice(
    0,
    6,
  );
  let running = dirs.length;
  const hammers = dirs.map((dir) =>
    lab.sh(HAMMER, [`${mountPoint}/${dir}`]).finally(() => running--)
  );
  const looking = (async () => {
    while (running > 0) await lab.sh('cd "$1"; git status; git status -uno', [mountPoint]);
  })();
  await Promise.all([...hammers, looking]);
  assert.notEqual(await assertSame(lab, mountPoint), "");
  await assertSame(lab, mountPoint);
});
