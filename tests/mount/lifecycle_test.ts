/** Starting, stopping, dying, coming back, sharing a store, and giving memory back. */

import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { makeSizedRepo } from "../support/repos.ts";
import { git, mountsBelow, waitFor } from "../support/run.ts";
import {
  anonymousBytes,
  type Daemon,
  fixture,
  isAlive,
  type Lab,
  mountTest,
  withGuard,
} from "./harness.ts";

const BUSY = 6;

const sized = fixture((path) =>
  makeSizedRepo(path, { files: 400, dirs: 60, blobBytes: 1000, commits: 2 })
);

/** Too few to be asked for as one commit. */
const fewFiles = fixture((path) => makeSizedRepo(path, { files: 80, dirs: 12, blobBytes: 1000 }));

/** Inode numbers, times, modes and sizes of everything, one line each. */
async function statAll(lab: Lab, mountPoint: string): Promise<string> {
  const script = `cd "$1"; find . -printf '%p %i %m %n %U %G %s %T@ %C@\\n' | sort`;
  return (await lab.sh(script, [mountPoint])).stdout;
}

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  mountTest(
    `lifecycle: ${signal} unmounts and exits 0, with a file open and a shell inside`,
    async (lab) => {
      const repo = await sized();
      await lab.share(repo.gitDir, "repo");
      const daemon = await lab.startDaemon();
      const mountPoint = await lab.mount(lab.serve().url("repo"), "repo", "--wait=history");
      const script = 'cd "$1"; exec 3<"$2"; read -r line <&3 || true; exec sleep 1000';
      const inside = lab.park("sh", "-euc", script, "sh", mountPoint, repo.samplePath);
      await waitFor(
        async () => /^sleep$/m.test(await Deno.readTextFile(`/proc/${inside.pid}/comm`)),
        "shell inside",
      );
      assert.equal(await daemon.stop(signal), 0);
      assert.deepEqual(await mountsBelow(lab.dir.path), []);
      assert.ok(await isAlive(inside.pid));
      assert.equal((await daemon.logged("Stopped")).length, 1);
      // The directory is an ordinary one again.
      assert.equal((await lab.sh('ls -A "$1"', [mountPoint])).stdout, "");
    },
  );
}

mountTest("lifecycle: SIGTERM ends a daemon whose readers wait for a server", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo");
  const server = lab.serve();
  const daemon = await lab.startDaemon();
  const mountPoint = await lab.mount(server.url("repo"), "repo", "--wait=history");
  server.set({ hang: true });
  const reader = lab.park("cat", `${mountPoint}/${repo.samplePath}`);
  await lab.waitForRequests(mountPoint, 1);
  await waitFor(() => server.counters().inflight > 0, "held request");
  assert.equal(await daemon.stop(), 0);
  assert.equal(await withGuard(reader.exited, 30_000, "end of the reader"), 1);
});

mountTest(
  "lifecycle: a dead mount point is replaced at the next start, the tree as before",
  async (lab) => {
    const repo = await sized();
    await lab.share(repo.gitDir, "repo");
    const server = lab.serve();
    const daemon = await lab.startDaemon();
    const mountPoint = await lab.mount(server.url("repo"), "repo", "--wait=history");
    await lab.sh('cd "$1"; find . -type f -exec cat {} + >/dev/null', [mountPoint]);
    const before = await statAll(lab, mountPoint);
    assert.equal(before.split("\n").length, repo.fileCount + repo.dirCount + 3);
    server.resetCounters();
    Deno.kill(daemon.pid, "SIGKILL");
    await daemon.ended();
    assert.deepEqual(await mountsBelow(lab.dir.path), [mountPoint]);
    // Never answered from a cache.
    const dead = await lab.sh('stat -f "$1" 2>&1', [mountPoint], { okCodes: "any" });
    assert.match(dead.stdout, /not connected/);

    const second = await lab.startDaemon();
    assert.deepEqual(await mountsBelow(lab.dir.path), [mountPoint]);
    assert.equal(await statAll(lab, mountPoint), before);
    await lab.compare(mountPoint, repo);
    assert.equal((await lab.statusOf("repo")).state, "mounted");
    await lab.afs(["remount", mountPoint]);
    assert.equal(await statAll(lab, mountPoint), before);
    assert.equal(await second.stop(), 0);

    await lab.startDaemon();
    assert.equal(await statAll(lab, mountPoint), before);
    assert.equal(server.counters().requests, 0);
  },
);

mountTest("lifecycle: sizes that a kill has lost cost no second download", async (lab) => {
  const repo = await fewFiles();
  await lab.share(repo.gitDir, "repo");
  const server = lab.serve();
  const daemon = await lab.startDaemon();
  const mountPoint = await lab.mount(server.url("repo"), "repo", "--wait=history");
  server.resetCounters();
  await lab.sh('cat "$1"/*', [`${mountPoint}/${repo.samplePath.replace(/\/[^/]*$/, "")}`]);
  const first = server.counters().wants;
  assert.ok(first > 0 && first < repo.fileCount, `${first} wants`);
  // It is read before its pack is complete, and a kill then loses it.
  await waitFor(
    async () => (await daemon.logged("Batch hydrated")).length > 0,
    "end of the fetch",
  );
  Deno.kill(daemon.pid, "SIGKILL");
  await daemon.ended();
  // As if it had been killed before they were kept, which happens in another thread.
  for await (const { name } of Deno.readDir(`${lab.stateRoot}/stores`)) {
    const path = `${lab.stateRoot}/stores/${name}/base.sqlite`;
    if (await Deno.stat(path).catch(() => null) === null) continue;
    const base = new DatabaseSync(path);
    base.exec("DELETE FROM sizes; DELETE FROM sizedPacks");
    base.close();
  }
  await lab.startDaemon();
  await lab.sh('find "$1" -type f -exec cat {} + >/dev/null', [mountPoint]);
  const { stdout } = await git(["--git-dir", repo.gitDir, "ls-tree", "-r", "HEAD"]);
  const blobs = new Set(stdout.trim().split("\n").map((line) => line.split(/\s/)[2]));
  assert.equal(server.counters().wants, blobs.size);
});

mountTest(
  "lifecycle: mount replaces a dead mount point too, and unmount takes it away",
  async (lab) => {
    const repo = await sized();
    await lab.share(repo.gitDir, "repo");
    const url = lab.serve().url("repo");
    const daemon = await lab.startDaemon();
    const mountPoint = await lab.mount(url, "repo");
    Deno.kill(daemon.pid, "SIGKILL");
    await daemon.ended();
    await lab.afs(["mount", url, mountPoint]);
    await lab.compare(mountPoint, repo);
    const [background] = await lab.background();
    assert.ok(background !== undefined);
    Deno.kill(background.pid, "SIGKILL");
    await background.ended();
    await lab.afs(["unmount", mountPoint]);
    assert.deepEqual(await mountsBelow(lab.dir.path), []);
  },
);

mountTest("lifecycle: a start without the remote mounts what was mounted", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo", "other");
  const server = lab.serve();
  const daemon = await lab.startDaemon();
  const mountPoint = await lab.mount(server.url("repo"), "repo", "--wait=history");
  const other = await lab.mount(server.url("other"), "other");
  await lab.afs(["unmount", other]);
  await lab.sh('cd "$1"; find . -type f -exec cat {} + >/dev/null', [mountPoint]);
  assert.equal(await daemon.stop(), 0);
  await server.close();
  await lab.dropCaches();
  await lab.startDaemon();
  await lab.compare(mountPoint, repo);
  const status = await lab.sh('cd "$1"; git status --porcelain; git log --oneline | wc -l', [
    mountPoint,
  ]);
  assert.equal(status.stdout, "2\n");
  // What was unmounted stays so.
  assert.equal((await lab.statusOf("other")).state, "unmounted");
  assert.deepEqual(await mountsBelow(lab.at("mnt")), [mountPoint]);
});

mountTest("lifecycle: a dead mount that the kernel remembers is seen to be dead", async (lab) => {
  const repo = await fewFiles();
  await lab.share(repo.gitDir, "repo");
  await lab.startDaemon();
  const path = await lab.mount(lab.serve().url("repo"), "repo", "--wait=history");
  // Listing and attributes of the root, the time of the last access too.
  const { stdout: before } = await lab.sh('ls "$1"; ls "$1" >/dev/null; stat "$1" >/dev/null', [
    path,
  ]);
  await lab.endDaemon("SIGKILL");
  assert.equal((await lab.sh('ls "$1"', [path])).stdout, before);
  const daemon = await lab.startDaemon();
  assert.deepEqual(await daemon.logged("Could not mount"), []);
  await lab.sh('cat "$1/$2"', [path, repo.samplePath]);
});

mountTest("lifecycle: a damaged store fails alone", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "good", "bad", "worse");
  const server = lab.serve();
  const daemon = await lab.startDaemon();
  const good = await lab.mount(server.url("good"), "good", "--wait=history");
  const stores = async () =>
    (await lab.sh('ls -d "$1"/stores/*/', [lab.stateRoot])).stdout.trim().split("\n");
  const first = await stores();
  await lab.mount(server.url("bad"), "bad", "--wait=history");
  const badStore = (await stores()).find((dir) => !first.includes(dir)) ?? "";
  const both = await stores();
  await lab.mount(server.url("worse"), "worse", "--wait=history");
  const worseStore = (await stores()).find((dir) => !both.includes(dir)) ?? "";
  assert.equal(await daemon.stop(), 0);
  await lab.sh('echo "this is no database" >"$1/base.sqlite"; rm -f "$1"/base.sqlite-*', [
    badStore,
  ]);
  await lab.sh('rm -rf "$1/git" "$1"/base.sqlite*', [worseStore]);

  const second = await lab.startDaemon();
  await lab.compare(good, repo);
  const bad = await lab.statusOf("bad");
  assert.equal(bad.state, "failed", JSON.stringify(bad));
  assert.notEqual(bad.result, "ok");
  // Its store has no object, so it is mounted at most as something that answers EIO.
  const worse = await lab.statusOf("worse");
  const listed = await lab.sh('ls "$1/worse" 2>&1', [lab.at("mnt")], { okCodes: "any" });
  assert.ok(worse.state === "failed" || listed.code !== 0, `${worse.state}: ${listed.stdout}`);
  assert.equal((await lab.statusOf("good")).state, "mounted");
  await lab.afs(["unmount", good]);
  await lab.afs(["mount", server.url("good"), good]);
  await lab.compare(good, repo);
  assert.equal(await second.stop(), 0);
});

mountTest("lifecycle: two mounts at the same moment start one daemon", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo");
  const url = lab.serve().url("repo");
  const [one, two] = await Promise.all([lab.mount(url, "one"), lab.mount(url, "two")]);
  await lab.compare(one, repo);
  await lab.compare(two, repo);
  const alive: Daemon[] = [];
  for (const daemon of await lab.background()) if (await isAlive(daemon.pid)) alive.push(daemon);
  assert.equal(alive.length, 1);
  // A third on the same state root says so.
  const refused = await lab.afs(["daemon"], { okCodes: [BUSY] });
  assert.match(refused.stderr, /^afs: Cannot start a daemon: .*\n$/);
});

mountTest("lifecycle: two mounts of the same thing at the same moment give one", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo");
  const url = lab.serve().url("repo");
  await lab.startDaemon();
  const [one] = await Promise.all([lab.mount(url, "repo"), lab.mount(url, "repo")]);
  assert.deepEqual(await mountsBelow(lab.at("mnt")), [one]);
  await lab.compare(one, repo);
});

mountTest(
  "lifecycle: the same URL elsewhere is a second work tree on the same store",
  async (lab) => {
    const repo = await sized();
    await lab.share(repo.gitDir, "repo");
    const server = lab.serve();
    await lab.startDaemon();
    const one = await lab.mount(server.url("repo"), "one", "--wait=history");
    await lab.sh('cd "$1"; find . -type f -exec cat {} + >/dev/null', [one]);
    const { bytesOut } = server.counters();
    server.resetCounters();
    const two = await lab.mount(server.url("repo"), "two", "--wait=history");
    await lab.compare(two, repo);
    const wants = server.requestLog.flatMap(({ wantOids }) => wantOids);
    assert.ok(
      server.counters().bytesOut < bytesOut / 4,
      `${server.counters().bytesOut} bytes after ${bytesOut}; wants ${wants}`,
    );
    const { stdout } = await lab.sh('ls -d "$1"/stores/*/ | wc -l', [lab.stateRoot]);
    assert.equal(stdout, "1\n");
    // They are apart: an index of one is not the other's.
    await lab.sh('cd "$1"; git rm -q --cached "$2"', [one, repo.samplePath]);
    assert.equal((await lab.sh('cd "$1"; git status --porcelain', [two])).stdout, "");
    await lab.afs(["unmount", one]);
    await lab.compare(two, repo);
  },
);

mountTest("lifecycle: umount by somebody else is noticed", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo");
  const url = lab.serve().url("repo");
  await lab.startDaemon();
  const mountPoint = await lab.mount(url, "repo", "--wait=history");
  await lab.sh('umount "$1"', [mountPoint]);
  await waitFor(async () => (await lab.statusOf("repo")).state !== "mounted", "notice");
  assert.equal((await lab.statusOf("repo")).state, "unmounted");
  await lab.afs(["mount", url, mountPoint]);
  await lab.compare(mountPoint, repo);
});

mountTest("lifecycle: a busy mount is not unmounted, unless forced", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo");
  const url = lab.serve().url("repo");
  await lab.startDaemon();
  const mountPoint = await lab.mount(url, "repo", "--wait=history");
  const inside = lab.park("sh", "-euc", 'cd "$1"; exec sleep 1000', "sh", mountPoint);
  await waitFor(
    async () => /^sleep$/m.test(await Deno.readTextFile(`/proc/${inside.pid}/comm`)),
    "shell inside",
  );
  const refused = await lab.afs(["unmount", mountPoint], { okCodes: [BUSY] });
  assert.match(refused.stderr, /^afs: Cannot unmount .*\n$/);
  assert.equal((await lab.statusOf("repo")).state, "mounted");
  await lab.compare(mountPoint, repo);
  await lab.afs(["unmount", "--force", mountPoint]);
  assert.deepEqual(await mountsBelow(lab.at("mnt")), []);
  assert.equal((await lab.statusOf("repo")).state, "unmounted");
  await lab.afs(["mount", url, mountPoint]);
  await lab.compare(mountPoint, repo);
});

mountTest("lifecycle: unmount and mount again asks nothing of the server", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo");
  const server = lab.serve();
  await lab.startDaemon();
  const mountPoint = await lab.mount(server.url("repo"), "repo", "--wait=history");
  await lab.sh('cd "$1"; find . -type f -exec cat {} + >/dev/null', [mountPoint]);
  server.resetCounters();
  await lab.afs(["unmount", "--name", "repo"]);
  assert.equal((await lab.statusOf("repo")).state, "unmounted");
  const again = await lab.afs(["unmount", "--name", "repo"], { okCodes: "any" });
  assert.equal(again.code, 5);
  await lab.mount(server.url("repo"), "repo");
  await lab.compare(mountPoint, repo);
  await lab.afs(["remount", "--name", "repo"]);
  await lab.compare(mountPoint, repo);
  assert.equal(server.counters().requests, 0);
});

mountTest("lifecycle: eight mounts in one daemon", async (lab) => {
  const repo = await sized();
  const names = Array.from({ length: 8 }, (_, i) => `m${i}`);
  await lab.share(repo.gitDir, ...names);
  const server = lab.serve();
  const daemon = await lab.startDaemon();
  const points = await Promise.all(names.map((name) => lab.mount(server.url(name), name)));
  assert.equal((await mountsBelow(lab.at("mnt"))).length, 8);
  const sums = await Promise.all(points.map(async (point) => {
    const script = 'cd "$1"; find . -type f ! -name .git -exec cat {} + | wc -c';
    return Number((await lab.sh(script, [point])).stdout);
  }));
  assert.deepEqual(new Set(sums), new Set([repo.totalBytes]));
  await lab.compare(points[7] ?? "", repo);
  const { stdout } = await lab.afs(["status"]);
  assert.equal(stdout.trim().split("\n").length, 8);
  assert.equal(await daemon.stop(), 0);
});

mountTest("lifecycle: dropped caches reach the daemon as FORGET", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo");
  const daemon = await lab.startDaemon();
  const mountPoint = await lab.mount(lab.serve().url("repo"), "repo", "--wait=history");
  const walk = () => lab.sh('cd "$1"; find . -type f -exec cat {} + >/dev/null', [mountPoint]);
  await walk();
  await lab.dropCaches();
  await walk();
  const before = await anonymousBytes(daemon.pid);
  for (let i = 0; i < 20; i++) {
    await lab.dropCaches();
    await walk();
  }
  const growth = await anonymousBytes(daemon.pid) - before;
  console.log(`      20 walks with dropped caches: ${(growth / (1 << 20)).toFixed(1)} MiB`);
  // A leak of a node for each file and walk would be this much several times over.
  assert.ok(growth < 32 << 20, `grew by ${growth} bytes`);
  await lab.compare(mountPoint, repo);
});

mountTest(
  "lifecycle: a mount whose connection was aborted does not stay in the tree",
  async (lab) => {
    const repo = await sized();
    await lab.share(repo.gitDir, "repo");
    const url = lab.serve().url("repo");
    await lab.startDaemon();
    const mountPoint = await lab.mount(url, "repo", "--wait=history");
    await lab.abortConnection(mountPoint);
    await waitFor(async () => (await lab.statusOf("repo")).state !== "mounted", "notice");
    const { stdout } = await lab.sh('grep -c " $1 " /proc/self/mountinfo || true', [mountPoint]);
    assert.equal(stdout.trim(), "0");
    await lab.afs(["mount", url, mountPoint]);
    await lab.compare(mountPoint, repo);
  },
);

mountTest("lifecycle: unmount takes our mount, not what lies on top of it", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo");
  const url = lab.serve().url("repo");
  await lab.startDaemon();
  const mountPoint = await lab.mount(url, "repo", "--wait=history");
  await lab.sh('mount -t tmpfs none "$1"', [mountPoint]);
  const refused = await lab.afs(["unmount", "--force", mountPoint], { okCodes: "any" });
  assert.equal(refused.code, 6);
  await lab.sh('umount "$1"', [mountPoint]);
  await lab.compare(mountPoint, repo);
  await lab.afs(["unmount", mountPoint]);
});

mountTest("lifecycle: a damaged overlay fails with one line and leaves no mount", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo", "other");
  const server = lab.serve();
  await lab.startDaemon();
  const mountPoint = await lab.mount(server.url("repo"), "repo", "--wait=history");
  const other = await lab.mount(server.url("other"), "other");
  await lab.sh('echo changed >"$1/new"', [mountPoint]);
  await lab.afs(["unmount", mountPoint]);
  const { stdout } = await lab.sh('grep -l . "$1"/repos/*/overlay/overlay.sqlite', [lab.stateRoot]);
  for (const path of stdout.trim().split("\n")) {
    const bytes = await Deno.readFile(path);
    await Deno.writeFile(path, bytes.fill(0xff, 1024));
  }
  const failed = await lab.afs(["mount", server.url("repo"), mountPoint], { okCodes: [1, 128] });
  assert.match(failed.stderr, /^afs: Cannot mount .*\n$/m);
  assert.deepEqual(await mountsBelow(lab.at("mnt")), [other]);
  await lab.compare(other, repo);
});

mountTest("lifecycle: unmount returns though another namespace holds the mount", async (lab) => {
  const repo = await sized();
  await lab.share(repo.gitDir, "repo");
  const url = lab.serve().url("repo");
  await lab.startDaemon();
  const mountPoint = await lab.mount(url, "repo", "--wait=history");
  const holder = lab.park("unshare", "--mount", "--propagation", "private", "sleep", "1000");
  await waitFor(
    async () => /^sleep$/m.test(await Deno.readTextFile(`/proc/${holder.pid}/comm`)),
    "a namespace that holds it",
  );
  await lab.afs(["unmount", mountPoint]);
  assert.equal((await lab.statusOf("repo")).state, "unmounted");
  await lab.afs(["mount", url, mountPoint]);
  await lab.compare(mountPoint, repo);
});
