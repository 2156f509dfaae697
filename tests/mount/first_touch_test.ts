/**
 * The first touch of a cold file, by every way into it: each in a mount whose store has no blob yet
 * (one remote name per way, since a store belongs to a URL). And everything that must fail fast.
 */

import assert from "node:assert/strict";
import { fixture, type Lab, mountTest, type Touched, withGuard } from "./harness.ts";
import { waitFor } from "../support/run.ts";
import { LINK_TARGET, makeTouchRepo, type TouchRepo } from "./touch_repo.ts";

const touchRepo = fixture(makeTouchRepo);

/** Mounts the repository once more, cold; the mount point. */
async function coldMounts(
  lab: Lab,
): Promise<{ repo: TouchRepo; next: () => Promise<string> }> {
  const repo = await touchRepo();
  const server = lab.serve();
  await lab.startDaemon();
  let count = 0;
  const next = async () => {
    const name = `cold-${count++}`;
    await lab.share(repo.gitDir, name);
    return await lab.mount(server.url(name), name, "--depth", "1");
  };
  return { repo, next };
}

mountTest("first touch: every way of reading gives size and bytes", async (lab, t) => {
  const { repo, next } = await coldMounts(lab);
  const { sizeBytes, sha256, path } = repo.one;
  const size = String(sizeBytes);
  const ways: [op: string, ...args: string[]][] = [
    ["read"],
    ["read-small"],
    ["direct"],
    ["mmap", size],
    ["mmap-shared", size],
    ["sendfile", lab.at("sendfile")],
    ["splice"],
  ];
  for (const [op, ...args] of ways) {
    await t.step(op, async () => {
      const mountPoint = await next();
      const touched = await lab.touch(op, `${mountPoint}/${path}`, ...args);
      assert.deepEqual(touched, { errno: "", sizeBytes, sha256 });
    });
  }
  await t.step("copy-file-range", async () => {
    const mountPoint = await next();
    const touched = await lab.touch("copy-file-range", `${mountPoint}/${path}`, lab.at("copy"));
    // Kernels from 5.19 on refuse it between file systems (generic_copy_file_checks).
    if (touched.errno === "") assert.deepEqual(touched, { errno: "", sizeBytes, sha256 });
    else assert.equal(touched.errno, "EXDEV");
    const read = await lab.touch("read", `${mountPoint}/${path}`);
    assert.deepEqual(read, { errno: "", sizeBytes, sha256 });
  });
  const positions: [op: string, at: number][] = [
    ["seek-end", sizeBytes],
    ["seek-data", 0],
    ["seek-hole", sizeBytes],
  ];
  for (const [op, at] of positions) {
    await t.step(op, async () => {
      const mountPoint = await next();
      assert.deepEqual(await lab.touch(op, `${mountPoint}/${path}`), { errno: "", at });
      const touched = await lab.touch("read", `${mountPoint}/${path}`);
      assert.deepEqual(touched, { errno: "", sizeBytes, sha256 });
    });
  }
  await t.step("pread at the end", async () => {
    const mountPoint = await next();
    const touched = await lab.touch("pread-end", `${mountPoint}/${path}`, size);
    assert.equal(touched["sizeBytes"], 50);
  });
  await t.step("stat", async () => {
    const mountPoint = await next();
    assert.deepEqual(await lab.touch("stat", `${mountPoint}/${path}`), { errno: "", sizeBytes });
  });
  await t.step("access", async () => {
    const mountPoint = await next();
    assert.deepEqual(await lab.touch("access", `${mountPoint}/${path}`), { errno: "" });
  });
  await t.step("readlink", async () => {
    const mountPoint = await next();
    const touched = await lab.touch("readlink", `${mountPoint}/${repo.link}`);
    assert.deepEqual(touched, { errno: "", target: LINK_TARGET });
  });
  await t.step("through a link", async () => {
    const mountPoint = await next();
    const touched = await lab.touch("read", `${mountPoint}/${repo.link}`);
    assert.deepEqual(touched, { errno: "", sizeBytes, sha256 });
  });
  // By a child: who starts a program waits in vfork(2) until its file is read.
  await t.step("exec of a script", async () => {
    const mountPoint = await next();
    const { stdout } = await lab.sh('exec "$1" ran', [`${mountPoint}/${repo.script}`]);
    assert.equal(stdout, "script ran\n");
  });
  await t.step("exec of a binary", async () => {
    const mountPoint = await next();
    const { stdout } = await lab.sh('exec "$1" "binary ran"', [
      `${mountPoint}/${repo.binary}`,
    ]);
    assert.equal(stdout, "binary ran\n");
  });
  await t.step("cmp, tail, tar, cp --reflink, grep", async () => {
    const mountPoint = await next();
    await lab.sh(
      `cd "$1"; tail -c 5000 group/0 | cmp - group/0; cp -r --reflink=auto group "$2"; diff -r group "$2"
       tar cf - one | tar xOf - one/file | cmp - one/file; ! grep -q nothing-of-this one/file`,
      [mountPoint, lab.at("group")],
    );
  });
});

mountTest("first touch: writing to a cold file keeps the bytes around it", async (lab, t) => {
  const { repo, next } = await coldMounts(lab);
  // Each does the same to a file in the mount and to one beside it.
  const writes: readonly (readonly [string, string])[] = [
    [">> by a shell", 'echo more >>"$1"'],
    ["over its beginning", 'printf over | dd of="$1" conv=notrunc status=none'],
    ["over its middle", 'printf over | dd of="$1" bs=1 seek=33333 conv=notrunc status=none'],
    ["behind its end", 'printf over | dd of="$1" bs=1 seek=100000 conv=notrunc status=none'],
    ["> by a shell", 'echo less >"$1"'],
    ["cut to nothing", ': >"$1"'],
    ["cut", 'truncate -s 12345 "$1"'],
    ["grown", 'truncate -s 123456 "$1"'],
    ["read and written by one descriptor", 'exec 3<>"$1"; head -c 1 <&3 >/dev/null; echo x >&3'],
    ["by sed -i", 'sed -i "1s/^/first/" "$1"'],
  ];
  for (const [name, write] of writes) {
    await t.step(name, async () => {
      const file = `${await next()}/${repo.one.path}`;
      const beside = lab.at("beside");
      await lab.sh('git --git-dir="$1" cat-file blob "$2" >"$3"', [
        repo.gitDir,
        repo.one.oid,
        beside,
      ]);
      for (const each of [file, beside]) await lab.sh(write, [each]);
      await lab.sh('cmp "$1" "$2"', [file, beside]);
    });
  }
});

mountTest("first touch: attributes, names, listings, statfs", async (lab, t) => {
  const { repo, next } = await coldMounts(lab);
  const mountPoint = await next();
  const file = `${mountPoint}/${repo.one.path}`;
  const errnoOf = async (...args: [string, string, ...string[]]) =>
    (await lab.touch(...args)).errno;
  await t.step("extended attributes", async () => {
    for (const name of ["user.x", "security.capability", "security.selinux", "trusted.x"]) {
      const errno = await errnoOf("getxattr", file, name);
      assert.match(errno, /^(EOPNOTSUPP|ENOTSUP|ENODATA)$/, name);
    }
    for (const name of ["system.posix_acl_access", "system.posix_acl_default"]) {
      assert.match(await errnoOf("getxattr", file, name), /^(EOPNOTSUPP|ENOTSUP|ENODATA)$/, name);
    }
    const list = await lab.touch("listxattr", file);
    assert.ok(list.errno === "" ? list["result"] === 0 : /NOTSUP/.test(list.errno));
  });
  await t.step("a name of 256 bytes", async () => {
    assert.equal(await errnoOf("stat", `${mountPoint}/${"n".repeat(256)}`), "ENAMETOOLONG");
    assert.equal(await errnoOf("stat", `${mountPoint}/one/${"n".repeat(4000)}`), "ENAMETOOLONG");
    assert.equal(await errnoOf("stat", `${mountPoint}/${"n".repeat(255)}`), "ENOENT");
  });
  await t.step("what is no directory, and what is one", async () => {
    assert.equal(await errnoOf("stat", `${file}/x`), "ENOTDIR");
    assert.equal(await errnoOf("read", `${mountPoint}/one`), "EISDIR");
    assert.equal(await errnoOf("readlink", file), "EINVAL");
  });
  await t.step("statfs", async () => {
    const { stdout } = await lab.sh("stat -f -c '%T %l %s %b %f %a' \"$1\"", [mountPoint]);
    const [type, nameMax, ...numbers] = stdout.trim().split(" ");
    assert.match(type ?? "", /^fuse/);
    assert.equal(nameMax, "255");
    const [blockSize = 0, blocks = 0, free = 0, available = 0] = numbers.map(Number);
    assert.ok(blockSize >= 512 && blocks > 0 && free <= blocks && available <= free, stdout);
  });
  await t.step("listings by buffers of any size", async () => {
    const listed = await lab.touch("list-sizes", `${mountPoint}/many`);
    const count = repo.many.length + 2;
    assert.deepEqual(listed, { errno: "", same: true, count, unique: count });
  });
  await t.step("telldir and seekdir", async () => {
    for (const dir of ["", "/many"]) {
      const { errno, wrong, behind, rewound } = await lab.touch("seekdir", mountPoint + dir);
      assert.deepEqual({ errno, wrong, behind, rewound }, {
        errno: "",
        wrong: [],
        behind: 0,
        rewound: true,
      });
    }
  });
});

mountTest("first touch: 16 readers of a cold file cause one download", async (lab) => {
  const repo = await touchRepo();
  await lab.share(repo.gitDir, "cold");
  const server = lab.serve();
  await lab.startDaemon();
  const mountPoint = await lab.mount(server.url("cold"), "cold", "--depth", "1");
  server.resetCounters();
  server.set({ hang: true });
  const readers = Array.from(
    { length: 16 },
    (_, i) =>
      lab.sh('exec sha256sum <"$1"', [`${mountPoint}/${repo.one.path}`], {
        env: { READER: String(i) },
      }),
  );
  // Each has asked for the size, and none has got it.
  await lab.waitForRequests(mountPoint, 16);
  server.set({ hang: false });
  for (const { stdout } of await Promise.all(readers)) {
    assert.equal(stdout.split(" ")[0], repo.one.sha256);
  }
  const wants = server.requestLog.flatMap(({ wantOids }) => wantOids);
  assert.equal(wants.filter((oid) => oid === repo.one.oid).length, 1);
});

mountTest("first touch: 500 reads that wait leave local files alone", async (lab) => {
  const repo = await touchRepo();
  await lab.share(repo.gitDir, "cold");
  const server = lab.serve();
  await lab.startDaemon();
  const mountPoint = await lab.mount(server.url("cold"), "cold", "--depth", "1");
  const group = async () => {
    const { stdout } = await lab.sh('cd "$1"; sha256sum group/* | cut -c1-64', [mountPoint]);
    assert.deepEqual(stdout.trim().split("\n"), repo.group.map(({ sha256 }) => sha256));
  };
  await group();
  await lab.dropCaches();
  server.set({ hang: true });
  const script = 'cd "$1"; for i in $(seq 0 499); do cat "parked/$i/file" & done; wait';
  const parked = lab.sh(script, [mountPoint]);
  await lab.waitForRequests(mountPoint, 500);
  await group();
  await lab.sh('ls -R "$1" >/dev/null', [mountPoint]);
  server.set({ hang: false });
  const { stdout } = await parked;
  const lines = stdout.trim().split("\n").sort();
  assert.deepEqual(lines, repo.parked.map((_, i) => `parked ${i}`).sort());
});

/** Each thread by itself: one may go on for a moment, and answer. */
async function isStopped(pid: number): Promise<boolean> {
  for await (const { name } of Deno.readDir(`/proc/${pid}/task`)) {
    const status = await Deno.readTextFile(`/proc/${pid}/task/${name}/status`);
    if (!/^State:\s+T/m.test(status)) return false;
  }
  return true;
}

const SIGNALS: readonly (readonly [Deno.Signal, number])[] = [["SIGKILL", 137], ["SIGINT", 130]];

mountTest("first touch: a signal ends a process that waits in the mount", async (lab, t) => {
  const repo = await touchRepo();
  await lab.share(repo.gitDir, "cold");
  const server = lab.serve();
  const daemon = await lab.startDaemon();
  const mountPoint = await lab.mount(server.url("cold"), "cold", "--depth", "1");
  const file = `${mountPoint}/${repo.one.path}`;
  server.set({ hang: true });
  const endedBy = async (signal: Deno.Signal, code: number, ...command: string[]) => {
    const parked = lab.park(command[0] ?? "", ...command.slice(1));
    // Before the exec a signal would be ours, and lost; requests may be left of the one before.
    const comm = () => Deno.readTextFile(`/proc/${parked.pid}/comm`);
    await waitFor(async () => (await comm()).trim() === command[0], `${command[0]}`);
    await lab.waitForRequests(mountPoint, 1);
    parked.kill(signal);
    assert.equal(await withGuard(parked.exited, 30_000, "end of the process"), code);
  };
  for (const [signal, code] of SIGNALS) {
    await t.step(`${signal}: stat`, () => endedBy(signal, code, "stat", file));
    await t.step(`${signal}: open`, () => endedBy(signal, code, "cat", file));
    await t.step(
      `${signal}: readlink`,
      () => endedBy(signal, code, "readlink", `${mountPoint}/${repo.link}`),
    );
  }
  await t.step("lookup and readdir, with a daemon that stands still", async () => {
    for (const [signal, code] of SIGNALS) {
      Deno.kill(daemon.pid, "SIGSTOP");
      try {
        await waitFor(() => isStopped(daemon.pid), "daemon that stands still");
        await endedBy(signal, code, "stat", `${mountPoint}/no-such-file-${signal}`);
        await endedBy(signal, code, "ls", `${mountPoint}/parked/${code}`);
      } finally {
        Deno.kill(daemon.pid, "SIGCONT");
      }
    }
  });
  await t.step("read of a file whose size is known", async () => {
    server.set({ hang: false });
    const packs = `${lab.stateRoot}/stores/*/git/objects/pack`;
    const before = (await lab.sh(`ls ${packs}`)).stdout.split("\n");
    const touched: Touched = await lab.touch("stat", file);
    assert.equal(touched["sizeBytes"], repo.one.sizeBytes);
    await lab.afs(["unmount", mountPoint]);
    // As if it had been evicted: the size stays.
    const after = (await lab.sh(`ls ${packs}`)).stdout.split("\n");
    const added = after.filter((name) => !before.includes(name));
    assert.ok(added.length > 0);
    for (const name of added) await lab.sh(`rm ${packs}/${name}`);
    await lab.mount(server.url("cold"), "cold", "--depth", "1");
    server.set({ hang: true });
    for (const [signal, code] of SIGNALS) await endedBy(signal, code, "cat", file);
    server.set({ hang: false });
  });
  const { sizeBytes, sha256 } = repo.one;
  assert.deepEqual(await lab.touch("read", file), { errno: "", sizeBytes, sha256 });
});
