/**
 * What goes over the network and when: requests counted at the server, one download each, memory,
 * and what happens when the server fails.
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { GitServer } from "../support/git_server_api.ts";
import { bigBlobChunks, makeBigBlobRepo, makeSizedRepo, type SizedRepo } from "../support/repos.ts";
import { git, sleep, waitFor } from "../support/run.ts";
import { anonymousBytes, type Daemon, fixture, type Lab, mountTest } from "./harness.ts";
import { makeTouchRepo } from "./touch_repo.ts";

const QUICK = Deno.env.get("AFS_QUICK") === "1";
const MIB = 1 << 20;
const BIG_BYTES = (QUICK ? 128 : 512) * MIB;
const GROWTH_MAX_BYTES = 64 * MIB;

const sized = fixture((path) =>
  makeSizedRepo(path, { files: 5000, dirs: 600, blobBytes: 2000, commits: 3 })
);
const big = fixture((path) => makeBigBlobRepo(path, BIG_BYTES));
const small = fixture(makeTouchRepo);

interface Cold {
  repo: SizedRepo;
  server: GitServer;
  daemon: Daemon;
  mountPoint: string;
}

/** The repository of 5,000 files, mounted, with its history and without a blob. */
async function coldMount(lab: Lab): Promise<Cold> {
  const repo = await sized();
  await lab.share(repo.gitDir, "sized");
  const server = lab.serve();
  const daemon = await lab.startDaemon();
  const mountPoint = await lab.mount(server.url("sized"), "sized", "--wait=history");
  server.resetCounters();
  return { repo, server, daemon, mountPoint };
}

mountTest("hydration: find and ls without -l cause no request", async (lab) => {
  const { repo, server, mountPoint } = await coldMount(lab);
  const { stdout } = await lab.sh('cd "$1"; ls -R >/dev/null; find . -type f | wc -l', [
    mountPoint,
  ]);
  assert.equal(Number(stdout), repo.fileCount + 1);
  await lab.sh('cd "$1"; git ls-tree -r HEAD >/dev/null; git log --oneline >/dev/null', [
    mountPoint,
  ]);
  assert.equal(server.counters().requests, 0);
});

mountTest("hydration: ls -l of one directory is one exchange", async (lab) => {
  const { repo, server, mountPoint } = await coldMount(lab);
  const directory = repo.samplePath.replace(/\/[^/]*$/, "");
  await lab.sh('ls -l "$1"', [`${mountPoint}/${directory}`]);
  const { requests } = server.counters();
  assert.ok(requests >= 1 && requests <= 2, `${requests} requests`);
});

mountTest("hydration: a cold ls -lR of 5,000 files takes at most 60 requests", async (lab) => {
  const { server, mountPoint } = await coldMount(lab);
  await lab.sh('ls -lR "$1" >/dev/null', [mountPoint]);
  const { requests, wants } = server.counters();
  console.log(`      ls -lR: ${requests} requests, ${wants} wants`);
  assert.ok(requests <= 60, `${requests} requests`);
});

mountTest("hydration: ten scattered cold reads take at most 2 requests each", async (lab) => {
  const { repo, server, mountPoint } = await coldMount(lab);
  const { stdout } = await git(["--git-dir", repo.gitDir, "ls-tree", "-r", "--name-only", "HEAD"]);
  const paths = stdout.trim().split("\n");
  const steps = [7, 3, 9, 0, 5, 2, 8, 1, 6, 4];
  const counts: number[] = [];
  for (const step of steps) {
    const path = paths[Math.floor((step + 0.5) * paths.length / 10)] ?? "";
    const before = server.counters().requests;
    const read = await lab.sh('git hash-object --no-filters "$1"', [`${mountPoint}/${path}`]);
    counts.push(server.counters().requests - before);
    const wanted = await git(["--git-dir", repo.gitDir, "rev-parse", `HEAD:${path}`]);
    assert.equal(read.stdout, wanted.stdout);
  }
  assert.ok(counts.every((count) => count <= 2), `requests: ${counts}`);
});

mountTest(
  "hydration: reading the whole tree takes few requests, and each is logged",
  async (lab) => {
    const { repo, server, daemon, mountPoint } = await coldMount(lab);
    await lab.sh('cd "$1"; find . -type f -exec cat {} + >/dev/null', [mountPoint]);
    const { requests, fetch } = server.counters();
    console.log(`      whole tree: ${requests} requests, ${fetch} fetches`);
    assert.ok(requests <= 30, `${requests} requests`);
    // The last event is on its way when the last byte is read.
    const logged = async () => (await daemon.log()).filter(({ msg }) => msg.includes("hydrat"));
    await waitFor(async () => (await logged()).length >= fetch, "event for each batch");
    const lines = await logged();
    assert.equal(lines.length, fetch);
    for (const line of lines) {
      assert.equal(line["repo"], "sized");
      assert.equal(typeof line["blobs"], "number");
      assert.equal(typeof line["durationMs"], "number");
    }
    await lab.compare(mountPoint, repo);
    assert.equal(server.counters().requests, requests);
    const status = await lab.statusOf("sized");
    assert.ok(status.hydratedBlobs > 0 && status.hydratedBytes > 0, JSON.stringify(status));
  },
);

mountTest("hydration: a big blob is served in little memory", async (lab, t) => {
  const repo = await big();
  await lab.share(repo.gitDir, "big");
  const server = lab.serve();
  const daemon = await lab.startDaemon();
  const mountPoint = await lab.mount(server.url("big"), "big", "--wait=history");
  const file = `${mountPoint}/${repo.path}`;
  await lab.sh('cat "$1"/small/*', [mountPoint]);
  const before = await anonymousBytes(daemon.pid);
  let most = 0;
  let reading = true;
  const sampling = (async () => {
    while (reading) {
      most = Math.max(most, await anonymousBytes(daemon.pid));
      await sleep(20);
    }
  })();
  try {
    await t.step("its first bytes do not wait for the last", async () => {
      const { stdout } = await lab.sh(
        'head -c 4096 "$1" | sha256sum; cat "$2"/stores/*/blobs/* | wc -c',
        [file, lab.stateRoot],
      );
      const [line = "", sizeBytes = ""] = stdout.split("\n");
      const [first] = bigBlobChunks(repo.sizeBytes);
      const wanted = createHash("sha256").update(first!.subarray(0, 4096)).digest("hex");
      assert.equal(line.split(" ")[0], wanted);
      assert.ok(Number(sizeBytes) < repo.sizeBytes, `${sizeBytes} bytes were there already`);
    });
    await t.step("all of it", async () => {
      const { stdout } = await lab.sh('sha256sum <"$1"', [file], { timeoutMs: 300_000 });
      assert.equal(stdout.split(" ")[0], repo.sha256);
    });
    await t.step("anywhere in it", async () => {
      await lab.dropCaches();
      const chunkCount = repo.sizeBytes / MIB;
      const picked = [chunkCount - 1, 0, chunkCount >> 1, 3, chunkCount - 7];
      const wanted = new Map<number, string>();
      let index = 0;
      for (const chunk of bigBlobChunks(repo.sizeBytes)) {
        if (picked.includes(index)) {
          wanted.set(index, createHash("sha256").update(chunk).digest("hex"));
        }
        index++;
      }
      for (const at of picked) {
        const { stdout } = await lab.sh(
          'dd if="$1" bs=1M skip="$2" count=1 status=none | sha256sum',
          [file, String(at)],
        );
        assert.equal(stdout.split(" ")[0], wanted.get(at), `MiB ${at}`);
      }
    });
  } finally {
    reading = false;
    await sampling;
  }
  const growth = most - before;
  console.log(`      anonymous memory grew by ${(growth / MIB).toFixed(1)} MiB`);
  assert.ok(growth < GROWTH_MAX_BYTES, `grew by ${(growth / MIB).toFixed(1)} MiB`);
  assert.equal(
    server.requestLog.flatMap(({ wantOids }) => wantOids).filter((oid) => oid === repo.blobOid)
      .length,
    1,
  );
});

mountTest("hydration: without a server, new content fails and local content reads", async (lab) => {
  const repo = await small();
  await lab.share(repo.gitDir, "small");
  const server = lab.serve();
  await lab.startDaemon();
  const mountPoint = await lab.mount(server.url("small"), "small", "--depth", "1");
  const file = `${mountPoint}/${repo.one.path}`;
  await lab.sh('cat "$1"/group/*', [mountPoint]);
  server.set({ down: true });
  assert.equal((await lab.touch("read", file)).errno, "EIO");
  // It has failed just now, so nobody is asked again.
  const { requests } = server.counters();
  assert.equal((await lab.touch("read", file)).errno, "EIO");
  assert.equal((await lab.touch("stat", file)).errno, "EIO");
  assert.equal(server.counters().requests, requests);
  await lab.dropCaches();
  const local = await lab.touch("read", `${mountPoint}/${repo.group[0]?.path}`);
  assert.equal(local["sha256"], repo.group[0]?.sha256);
  server.set({ down: false });
  await waitFor(
    async () => (await lab.touch("read", file))["sha256"] === repo.one.sha256,
    "bytes after the server is back",
    { timeoutMs: 120_000, pollMs: 300 },
  );
});

mountTest("hydration: a cut or corrupt answer is an error, never wrong bytes", async (lab) => {
  const repo = await small();
  await lab.startDaemon();
  const faults = {
    "cut-in-the-pack": { truncateAfterBytes: 20_000 },
    "cut-at-once": { truncateAfterBytes: 0 },
    "wrong-byte": { corruptAtByte: 30_000 },
  } as const;
  await Promise.all(
    Object.entries(faults).map(async ([name, fault]) => {
      await lab.share(repo.gitDir, name);
      const server = lab.serve();
      const mountPoint = await lab.mount(server.url(name), name, "--depth", "1");
      const file = `${mountPoint}/${repo.one.path}`;
      server.set(fault);
      assert.equal((await lab.touch("read", file)).errno, "EIO", name);
      server.set({ truncateAfterBytes: null, corruptAtByte: null });
      await waitFor(
        async () => {
          const { errno, sha256 } = await lab.touch("read", file);
          if (errno === "") assert.equal(sha256, repo.one.sha256, name);
          return errno === "";
        },
        `right bytes after ${name}`,
        { timeoutMs: 120_000, pollMs: 500 },
      );
    }),
  );
});

mountTest("hydration: an object that the remote has lost fails alone", async (lab) => {
  const repo = await small();
  const lossy = lab.at("lossy.git");
  // Loose objects, so that one can be taken away.
  await git(["init", "--quiet", "--bare", "--template=", lossy]);
  const packs = (await Array.fromAsync(Deno.readDir(`${repo.gitDir}/objects/pack`)))
    .filter(({ name }) => name.endsWith(".pack"));
  for (const { name } of packs) {
    await git(["--git-dir", lossy, "unpack-objects", "-q"], {
      stdin: await Deno.readFile(`${repo.gitDir}/objects/pack/${name}`),
    });
  }
  await git(["--git-dir", lossy, "update-ref", "refs/heads/main", repo.headOid]);
  await git(["--git-dir", lossy, "symbolic-ref", "HEAD", "refs/heads/main"]);
  await lab.share(lossy, "lossy");
  const server = lab.serve();
  await lab.startDaemon();
  const mountPoint = await lab.mount(server.url("lossy"), "lossy", "--depth", "1");
  const lost = repo.group[2];
  assert.ok(lost !== undefined);
  await Deno.remove(`${lossy}/objects/${lost.oid.slice(0, 2)}/${lost.oid.slice(2)}`);
  assert.equal((await lab.touch("read", `${mountPoint}/${lost.path}`)).errno, "EIO");
  for (const { path, sha256, sizeBytes } of repo.group) {
    if (path === lost.path) continue;
    const touched = await lab.touch("read", `${mountPoint}/${path}`);
    assert.deepEqual(touched, { errno: "", sizeBytes, sha256 });
  }
  assert.equal((await lab.touch("read", `${mountPoint}/${lost.path}`)).errno, "EIO");
  const { stdout } = await lab.sh('ls "$1"/group | wc -l', [mountPoint]);
  assert.equal(Number(stdout), repo.group.length);
});

mountTest("hydration: a server that falls silent fails the read, and nothing else", async (lab) => {
  const repo = await small();
  await lab.share(repo.gitDir, "small");
  const server = lab.serve();
  await lab.startDaemon();
  const mountPoint = await lab.mount(server.url("small"), "small", "--depth", "1");
  // One of its files: who reads them all is taken to read everything.
  await lab.sh('cat "$1"', [`${mountPoint}/${repo.group[0]?.path}`]);
  // One request is never answered, one stops in the middle, at the same time.
  server.set({ stallAfterBytes: 20_000 });
  const stalled = lab.touch("read", `${mountPoint}/${repo.one.path}`);
  await waitFor(() => server.counters().inflight > 0, "stalled answer");
  server.set({ hang: true });
  const hung = lab.touch("readlink", `${mountPoint}/${repo.link}`);
  await waitFor(() => server.counters().inflight > 1, "hung request");
  assert.equal((await stalled).errno, "EIO");
  assert.equal((await hung).errno, "EIO");
  server.set({ hang: false, stallAfterBytes: null });
  await lab.dropCaches();
  const local = await lab.touch("read", `${mountPoint}/${repo.group[0]?.path}`);
  assert.equal(local["sha256"], repo.group[0]?.sha256);
  assert.equal((await lab.statusOf("small")).state, "mounted");
  await waitFor(
    async () => (await lab.touch("read", `${mountPoint}/${repo.one.path}`)).errno === "",
    "bytes after the server is back",
    { timeoutMs: 120_000, pollMs: 300 },
  );
});
