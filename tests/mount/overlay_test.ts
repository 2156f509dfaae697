/** Writing in a mount: what survives, what is refused, what a full disk does, who shares what. */

import assert from "node:assert/strict";
import { makeSizedRepo } from "../support/repos.ts";
import { waitFor } from "../support/run.ts";
import {
  type Daemon,
  fixture,
  type Lab,
  mountTest,
  type RepoStatusJson,
  TOUCH_MAIN,
} from "./harness.ts";

const sized = fixture((path) =>
  makeSizedRepo(path, { files: 200, dirs: 30, blobBytes: 1000, commits: 1 })
);

interface Mounted {
  readonly daemon: Daemon;
  readonly mountPoint: string;
  readonly url: string;
}

async function mounted(lab: Lab, ...flags: string[]): Promise<Mounted> {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo");
  const url = lab.serve().url("repo");
  const daemon = await lab.startDaemon();
  return { daemon, url, mountPoint: await lab.mount(url, "repo", "--wait=history", ...flags) };
}

/** Everything that stat and read show of a tree, one line each. */
async function state(lab: Lab, dir: string): Promise<string> {
  const script = `cd "$1"
    find . -printf '%p %y %i %m %n %U %G %T@ %l\\n' | sort
    find . -type f ! -name .git -exec sha256sum {} + | sort -k 2`;
  return (await lab.sh(script, [dir])).stdout;
}

/** A change of every kind, to what is in the repository and to what is new. */
const CHANGES = `cd "$1"
  set -- $(find . -type f -size -2 ! -name .git | sort | head -n 9)
  echo appended >>"$1"
  : >"$2"
  rm "$3"
  mv "$4" renamed
  ln "$5" linked
  chmod 700 "$6"
  touch -d '2001-02-03 04:05:06.123456789' "$7"
  mkdir -p new/deep/er
  echo content >new/deep/er/file
  ln -s deep/er new/link
  mkfifo new/fifo
  mv "$(find . -mindepth 1 -maxdepth 1 -type d ! -name new | sort | head -n 1)" new/moved
  echo gone >new/gone; rm new/gone
  truncate -s 1M new/sparse
  printf 'end' | dd of=new/sparse bs=1 seek=5000 conv=notrunc status=none`;

mountTest("overlay: kill -9 loses nothing that was acknowledged", async (lab) => {
  const { daemon, mountPoint } = await mounted(lab);
  await lab.sh(CHANGES, [mountPoint]);
  const before = await state(lab, mountPoint);
  Deno.kill(daemon.pid, "SIGKILL");
  await daemon.ended();
  await lab.startDaemon();
  assert.equal(await state(lab, mountPoint), before);
});

mountTest("overlay: unmount, SIGTERM and dropped caches keep what was changed", async (lab) => {
  const { daemon, mountPoint, url } = await mounted(lab);
  await lab.sh(CHANGES, [mountPoint]);
  const before = await state(lab, mountPoint);
  await lab.dropCaches();
  assert.equal(await state(lab, mountPoint), before);
  await lab.afs(["unmount", mountPoint]);
  await lab.afs(["mount", url, mountPoint]);
  assert.equal(await state(lab, mountPoint), before);
  assert.equal(await daemon.stop(), 0);
  await lab.startDaemon();
  assert.equal(await state(lab, mountPoint), before);
});

mountTest("overlay: status tells what differs, and removal refuses to lose it", async (lab) => {
  const { daemon, mountPoint } = await mounted(lab);
  const overlay = async () => {
    const { overlayDirty, overlay } = await lab.statusOf("repo") as RepoStatusJson & {
      overlayDirty: boolean;
      overlay: { created: number; modified: number; deleted: number };
    };
    return [overlayDirty, overlay.created, overlay.modified, overlay.deleted];
  };
  assert.deepEqual(await overlay(), [false, 0, 0, 0]);
  const script = `cd "$1"; set -- $(find . -type f ! -name .git | sort | head -n 3)
    echo more >>"$1"; rm "$2"; mkdir new; echo x >new/file; chmod 600 "$3"; touch "$3"`;
  await lab.sh(script, [mountPoint]);
  assert.deepEqual(await overlay(), [true, 2, 1, 1]);
  assert.match((await lab.afs(["status"])).stdout, / overlay_dirty=true /);
  const refused = await lab.afs(["remove-repo", "--name", "repo"], { okCodes: [1] });
  assert.match(
    refused.stderr,
    /^afs: Cannot remove repo: 4 changes in the work tree that HEAD does not have would be lost/,
  );
  const dry = await lab.afs(["remove-repo", "--name", "repo", "--dry-run"]);
  assert.match(dry.stdout, /4 changes in the work tree/);
  assert.equal(await daemon.stop(), 0);
  // Without a daemon too.
  assert.deepEqual(await overlay(), [true, 2, 1, 1]);
  const again = await lab.afs(["remove-repo", "--name", "repo"], { okCodes: [1] });
  assert.match(again.stderr, /4 changes in the work tree/);
  await lab.afs(["remove-repo", "--name", "repo", "--force"]);
  assert.equal((await lab.afs(["list-repos"])).stdout, "");
  assert.equal((await lab.sh('ls "$1/repos"', [lab.stateRoot])).stdout, "");
});

mountTest("overlay: .git stays as it is", async (lab) => {
  const { mountPoint } = await mounted(lab);
  const tries = [
    "echo x >.git",
    "echo x | dd of=.git conv=notrunc oflag=append status=none",
    "rm -f .git",
    "mv .git moved",
    "touch other && mv other .git",
    "ln .git linked",
    "chmod 600 .git",
    "chown 1 .git",
    "touch .git",
    "truncate -s 0 .git",
  ];
  const before = await lab.sh('cat "$1/.git"', [mountPoint]);
  for (const attempt of tries) {
    const { code, stderr } = await lab.sh(`cd "$1"; ${attempt}`, [mountPoint], { okCodes: "any" });
    assert.notEqual(code, 0, attempt);
    assert.match(stderr, /Operation not permitted/, attempt);
  }
  assert.equal((await lab.sh('cat "$1/.git"', [mountPoint])).stdout, before.stdout);
  // A repository in the repository is somebody's own.
  await lab.sh('cd "$1"; git init -q inner; git -C inner status --short', [mountPoint]);
});

mountTest("overlay: creating, deleting, chmod and rename fetch nothing", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo");
  const server = lab.serve();
  await lab.startDaemon();
  const mountPoint = await lab.mount(server.url("repo"), "repo", "--wait=history");
  // The kernel looks things up, and nobody asks for a size.
  await lab.sh('find "$1" >/dev/null', [mountPoint]);
  server.resetCounters();
  const script = `cd "$1"; d=$(find . -mindepth 1 -maxdepth 1 -type d | sort | head -n 1)
    f=$(find . -mindepth 2 -type f | sort | tail -n 1)
    mkdir build; echo object >build/a.o; mv "$d" build/; mv "$f" build/f
    perl -e 'chmod 0755, "build/f" or die'`;
  await lab.sh(script, [mountPoint]);
  // chmod(1) and rm(1) stat before, which asks for a size; chmod(2) and unlink(2) ask for nothing.
  const files =
    (await lab.sh('cd "$1"; find . -type f ! -name .git | sort | head -n 5', [mountPoint]))
      .stdout.trim().split("\n");
  for (const file of files) await lab.sh('unlink "$1/$2"', [mountPoint, file]);
  assert.equal(server.counters().requests, 0);
});

mountTest("overlay: two work trees of one store have nothing in common", async (lab) => {
  const { mountPoint, url } = await mounted(lab);
  const other = await lab.mount(url, "other");
  const before = await state(lab, other);
  await lab.sh(CHANGES, [mountPoint]);
  assert.equal(await state(lab, other), before);
  await lab.sh('cd "$1"; mkdir only; echo here >only/file', [other]);
  await lab.sh('cd "$1"; ! test -e only', [mountPoint]);
});

mountTest(
  "overlay: a full disk refuses the writer, and room can be made in the mount",
  async (lab) => {
    await lab.sh('mkdir "$1"; mount -t tmpfs -o size=96m tmpfs "$1"', [lab.stateRoot]);
    const { daemon, mountPoint } = await mounted(lab);
    try {
      await lab.sh('cd "$1"; mkdir keep; echo kept >keep/file; mkdir many', [mountPoint]);
      const filled = await lab.sh('cd "$1"; dd if=/dev/zero of=fill bs=64k', [mountPoint], {
        okCodes: "any",
      });
      assert.match(filled.stderr, /No space left on device/);
      const small = await lab.sh(
        // Not echo: what dash says of a failed write is the same for every errno.
        'cd "$1"; i=0; while cp keep/file many/$i; do i=$((i + 1)); done',
        [mountPoint],
        { okCodes: "any" },
      );
      assert.match(small.stderr, /No space left on device/);
      assert.equal((await lab.sh('cat "$1/keep/file"', [mountPoint])).stdout, "kept\n");
      await lab.sh('cd "$1"; truncate -s 1M fill; rm -r many', [mountPoint]);
      await lab.sh('cd "$1"; dd if=/dev/zero of=again bs=64k count=320 status=none; rm fill', [
        mountPoint,
      ]);
      const before = await state(lab, mountPoint);
      assert.equal(await daemon.stop(), 0);
      const second = await lab.startDaemon();
      assert.equal(await state(lab, mountPoint), before);
      assert.equal(await second.stop(), 0);
    } finally {
      await lab.sh('umount -l "$1"', [lab.stateRoot]);
    }
  },
);

mountTest("overlay: fsync reaches the disk, bytes and rows", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo");
  const trace = lab.at("trace");
  const under = ["strace", "-f", "-y", "-e", "trace=fsync,fdatasync", "-o", trace];
  await lab.startDaemon({ under });
  const mountPoint = await lab.mount(lab.serve().url("repo"), "repo", "--wait=history");
  const synced = async (script: string) => {
    const before = (await Deno.readTextFile(trace)).length;
    await lab.sh(script, [mountPoint]);
    const lines = (await Deno.readTextFile(trace)).slice(before).split("\n");
    return lines.flatMap((line) => /f(?:data)?sync\(\d+<([^>]*)>/.exec(line)?.[1] ?? [])
      .filter((path) => path.includes("/overlay/"))
      .map((path) => path.slice(path.indexOf("/overlay/") + 9).replace(/\d{5,}/, "INO"));
  };
  // Before the first change: a journal of file monitors must know whether it was open.
  assert.deepEqual(await synced(': >"$1/first"'), ["overlay.sqlite-wal"]);
  const made = await synced('dd if=/dev/zero of="$1/file" bs=4k count=1 conv=fsync status=none');
  assert.deepEqual(made.sort(), ["overlay.sqlite-wal", "upper", "upper/INO"]);
  const again = await synced(
    'dd if=/dev/zero of="$1/file" bs=4k count=1 conv=notrunc,fdatasync status=none',
  );
  // No row has changed since.
  assert.deepEqual(again, ["upper/INO"]);
  const directory = await synced('mkdir "$1/dir"; sync "$1/dir"');
  assert.deepEqual(directory, ["overlay.sqlite-wal"]);
});

/** Contention whose result does not depend on who wins. */
const CONTENDER = `cd "$1"; me=$2; shared=shared
  i=0
  while [ $i -lt 40 ]; do
    mkdir -p $shared/$i
    echo "$me" >$shared/$i/own.$me
    mv $shared/$i/own.$me $shared/$i/moved.$me
    ln $shared/$i/moved.$me $shared/$i/link.$me
    rm $shared/$i/moved.$me
    echo "$me" >tmp.$me; mv tmp.$me target.$((i % 4))
    (set -C; echo "$me" >lock.$i) 2>/dev/null && echo won >>wins.$me || true
    echo line >>log
    mkdir once.$i 2>/dev/null && echo once >>made.$me || true
    i=$((i + 1))
  done`;

mountTest("overlay: 16 processes in the same directories, as on a local one", async (lab) => {
  const { mountPoint } = await mounted(lab);
  const local = lab.at("local");
  await Deno.mkdir(local);
  const outcome = async (dir: string) => {
    const work = `${dir}/contended`;
    await lab.sh('mkdir "$1"', [work]);
    const script = `i=0; while [ $i -lt 16 ]; do sh -euc '${
      CONTENDER.replaceAll("'", `'\\''`)
    }' sh "$1" $i & i=$((i + 1)); done; wait`;
    await lab.sh(script, [work]);
    const { stdout } = await lab.sh(
      `cd "$1"; ls -R shared | sort; ls; cat log | wc -l; cat wins.* | wc -l; cat made.* | wc -l
       find shared -type f -printf '%n\\n' | sort | uniq -c; find . -type d -links -2 | wc -l`,
      [work],
    );
    // Who won a race is chance; how many won is not.
    return stdout.replaceAll(/^(wins|made)\.\d+$\n/gm, "");
  };
  assert.equal(await outcome(mountPoint), await outcome(local));
});

mountTest("overlay: what was unlinked but open goes with the last who has it", async (lab) => {
  const { daemon, mountPoint } = await mounted(lab);
  const script =
    'cd "$1"; echo some >f; exec 3<>f; rm f; echo more >&3; touch ready; exec sleep 1000';
  const holder = lab.park("sh", "-euc", script, "sh", mountPoint);
  await waitFor(
    async () => (await lab.sh('test -e "$1/ready"', [mountPoint], { okCodes: "any" })).code === 0,
    "holder",
  );
  const backing = async () =>
    (await lab.sh('ls "$1"/repos/*/overlay/upper | wc -l', [lab.stateRoot])).stdout.trim();
  assert.equal(await backing(), "2");
  holder.kill("SIGKILL");
  await holder.exited;
  await waitFor(async () => await backing() === "1", "end of the backing file");
  // Killed while somebody has it: nobody's at the next start.
  const second = lab.park(
    "sh",
    "-euc",
    script.replace("touch ready", "touch two"),
    "sh",
    mountPoint,
  );
  await waitFor(
    async () => (await lab.sh('test -e "$1/two"', [mountPoint], { okCodes: "any" })).code === 0,
    "second holder",
  );
  Deno.kill(daemon.pid, "SIGKILL");
  await daemon.ended();
  second.kill("SIGKILL");
  await lab.startDaemon();
  assert.equal(await backing(), "2");
});

for (const how of ["unmount --force", "SIGTERM"]) {
  mountTest(`overlay: ${how} writes what is dirty in a shared mapping`, async (lab) => {
    const { daemon, mountPoint, url } = await mounted(lab);
    const file = `${mountPoint}/mapped`;
    const ready = lab.at("ready");
    await lab.sh('head -c 300000 /dev/zero >"$1"', [file]);
    const holder = lab.park(Deno.execPath(), "run", "-A", TOUCH_MAIN, "mmap-dirty", file, ready);
    await waitFor(() => Deno.stat(ready).then(() => true, () => false), "a dirty mapping", {
      timeoutMs: 60_000,
    });
    if (how === "SIGTERM") {
      assert.equal(await daemon.stop(), 0);
      await lab.startDaemon();
    } else {
      await lab.afs(["unmount", "--force", mountPoint]);
      await lab.afs(["mount", url, mountPoint]);
    }
    const { stdout } = await lab.sh('tr -d Z <"$1" | wc -c; wc -c <"$1"', [file]);
    assert.equal(stdout, "0\n300000\n");
    holder.kill("SIGKILL");
  });
}
