/**
 * `mount -t fuse.afs`: the program under the name of a helper, and the mount(8) of this machine,
 * which looks for helpers in /sbin. That is a folder of ours then, in a mount namespace of ours.
 */

import assert from "node:assert/strict";
import { mountInfo, run, type RunResult, waitFor } from "../support/run.ts";
import { type Cli, cliTest, makeRepo } from "./cli_harness.ts";
import { AFS } from "./harness.ts";

const AUTOMOUNT_MAIN = decodeURIComponent(new URL("./automount_main.ts", import.meta.url).pathname);

/** The program as mount(8) would start it. */
async function helper(afs: Cli, args: readonly string[]): Promise<RunResult> {
  const link = afs.at("mount.fuse.afs");
  await Deno.symlink(AFS, link).catch(() => {});
  const options = { clearEnv: true, env: afs.env, okCodes: "any", timeoutMs: 120_000 } as const;
  return await run(link, args, options);
}

/** Runs a script in a mount namespace in which /sbin has the helper, and /run nothing. */
async function withHelper(
  afs: Cli,
  script: string,
  args: readonly string[],
): Promise<RunResult> {
  const prepare = `
    cd /
    mount -t tmpfs tmpfs "$TOP"
    mkdir "$TOP/upper" "$TOP/work"
    sbin=$(readlink -f /sbin)
    mount -t overlay -o "lowerdir=$sbin,upperdir=$TOP/upper,workdir=$TOP/work" overlay "$sbin"
    ln -sf "$AFS" "$sbin/mount.fuse.afs"
    mount -t tmpfs tmpfs /run
  `;
  await Deno.mkdir(afs.at("top"), { recursive: true });
  const result = await run(
    "unshare",
    ["--mount", "--propagation", "private", "sh", "-euc", `${prepare}\n${script}`, "sh", ...args],
    {
      clearEnv: true,
      env: { ...afs.env, AFS, TOP: afs.at("top") },
      okCodes: "any",
      timeoutMs: 300_000,
    },
  );
  afs.output += result.stdout + result.stderr;
  return result;
}

cliTest("as a helper: what is mounted, how, and with which code it ends", async (afs) => {
  await makeRepo(afs.at("repo.git"));
  const source = `file://${afs.at("repo.git")}`;
  const ends = async (code: number, pattern: RegExp, ...args: string[]) => {
    const { code: found, stderr } = await helper(afs, args);
    assert.equal(found, code, stderr);
    const lines = stderr.trimEnd().split("\n").filter((line) => line.startsWith("afs: Cannot"));
    assert.equal(lines.length, code === 0 ? 0 : 1, stderr);
    assert.match(lines[0] ?? "", pattern);
  };
  const dir = afs.at("m");
  await ends(0, /^$/, source, dir, "-f", "-o", "rw");
  assert.deepEqual(await afs.mounts(), [], "only checked");
  assert.equal((await helper(afs, [])).code, 1);
  assert.match((await helper(afs, ["--help"])).stdout, /^usage: mount\.fuse\.afs/);
  await ends(1, /no option "odd"/, source, dir, "-o", "rw,odd");
  await ends(32, /no such directory/, afs.at("absent.git"), dir, "-o", "rw");
  await ends(32, /no branch|cannot|Cannot/, `${source}#absent`, dir, "-o", "rw");
  await ends(0, /^$/, `${source}#feature`, dir, "-o", "ro,name=n,uid=65534,gid=65533,x-a,_netdev");
  const [mount] = (await mountInfo()).filter(({ mountPoint }) => mountPoint === dir);
  assert.equal(mount?.fsType, "fuse.afs");
  const shown = await run("findmnt", ["-no", "SOURCE,FSTYPE,OPTIONS", dir]);
  assert.match(shown.stdout, new RegExp(`^${source}\\s+fuse\\.afs ro,nosuid,nodev,`));
  const { stdout } = await afs.sh(
    'cat "$1/file.txt"; stat -c %u:%g "$1"; touch "$1/x" 2>&1 || true',
    [
      dir,
    ],
  );
  assert.match(stdout, /^content 1\n65534:65533\n.*Read-only file system\n$/);
  assert.equal((await afs.statusOf("n")).ref, "refs/heads/feature");
  // The same again is done already; another is refused.
  await ends(0, /^$/, `${source}#feature`, dir, "-o", "ro");
  await ends(32, /"n" with feature is registered there/, `${source}#main`, dir, "-o", "ro");
  // It stays read-only with the next daemon.
  await afs.endDaemon();
  await afs.startDaemon();
  assert.match((await run("findmnt", ["-no", "OPTIONS", dir])).stdout, /^ro,/);
  await run("umount", [dir]);
  await afs.ok(["remove-repo", "--name", "n"]);
  await ends(0, /^$/, source, dir, "-o", "rw,umask=007");
  const { stdout: written } = await afs.sh(
    'echo new >"$1/x"; cat "$1/x"; stat -c %a "$1/file.txt"',
    [dir],
  );
  assert.equal(written, "new\n660\n");
  await ends(32, /registered there, and may be written/, source, dir, "-o", "ro");
});

cliTest("mount(8), fstab and umount(8) of this machine", async (afs) => {
  await makeRepo(afs.at("repo.git"));
  const source = `file://${afs.at("repo.git")}`;
  for (const name of ["a", "b"]) await Deno.mkdir(afs.at(name));
  const fstab = afs.at("fstab");
  await Deno.writeTextFile(
    fstab,
    `${source}#feature ${afs.at("b")} fuse.afs ` +
      "ro,_netdev,noauto,x-systemd.automount,x-systemd.requires=afs.service,name=bee 0 0\n",
  );
  const { stdout, stderr, code } = await withHelper(
    afs,
    `
    gone() {
      for at; do
        if grep -qF " $at " /proc/self/mountinfo; then echo "$at is mounted"; return; fi
      done
      echo none
    }
    mount -t fuse.afs "$1" "$2" -o nosuid,nodev,noatime,depth=2
    cat "$2/file.txt"; touch "$2/new"; findmnt -no SOURCE,FSTYPE "$2"
    mount --fstab "$4" "$3"
    cat "$3/file.txt"; touch "$3/new" 2>/dev/null || echo read-only
    mount --fstab "$4" -a && echo again
    umount "$2"; umount "$3"; gone "$2" "$3"
    mount --fstab "$4" "$3"; cat "$3/file.txt"
    mount -t fuse.afs "$1" "$2" -o rw,odd=1 || echo "code $?"
    mount -t fuse.afs "$1#absent" "$2" -o rw || echo "code $?"
    (cd "$3"; umount "$3" 2>/dev/null || echo busy; umount -l "$3")
    gone "$3"
    `,
    [source, afs.at("a"), afs.at("b"), fstab],
  );
  assert.equal(code, 0, stderr);
  assert.deepEqual(stdout.trimEnd().split("\n").map((line) => line.replaceAll(/ +/g, " ")), [
    "content 3",
    `${source} fuse.afs`,
    "content 1",
    "read-only",
    "again",
    "none",
    "content 1",
    "code 1",
    "code 32",
    "busy",
    "none",
  ]);
  assert.match(stderr, /^afs: Cannot mount: there is no option "odd"/m);
});

cliTest(
  "a login is refused in a source, and used where afs has been given it before",
  async (afs) => {
    await makeRepo(afs.at("remotes", "repo.git"));
    const login = { user: "u", password: "tok3n-of-mine" };
    const server = afs.serve({ login });
    const plain = server.url("repo.git");
    await Deno.mkdir(afs.at("m"));
    const { stdout, stderr, code } = await withHelper(
      afs,
      `mount -t fuse.afs "$2" "$3" -o rw,_netdev || echo "code $?"
     cat /run/mount/utab 2>/dev/null || true
     "$AFS" mount "$2" "$3" >/dev/null; umount "$3"
     mount -t fuse.afs "$1#main" "$3" -o rw,_netdev || echo "code $?"
     mount -t fuse.afs "$1" "$3" -o rw,_netdev
     cat "$3/file.txt"; findmnt -no SOURCE "$3"
     cat /run/mount/utab /proc/self/mountinfo; umount "$3"`,
      [plain, server.url("repo.git", login), afs.at("m")],
    );
    assert.equal(code, 0, stderr);
    assert.equal(stdout.split("\n").slice(0, 4).join("\n"), `code 1\ncode 32\ncontent 3\n${plain}`);
    assert.match(stderr, /^afs: Cannot mount: the URL has a login/m);
    assert.doesNotMatch(stdout + stderr, /tok3n/);
  },
);

cliTest(
  "an automount: mounted for the first who comes, and left to it by the next daemon",
  async (afs) => {
    await makeRepo(afs.at("repo.git"));
    await Deno.mkdir(afs.at("m"));
    await Deno.symlink(AFS, afs.at("mount.fuse.afs"));
    const first = await afs.startDaemon();
    const script = ["run", "-A", "--no-check", "--quiet", AUTOMOUNT_MAIN];
    const helper = [
      afs.at("mount.fuse.afs"),
      `file://${afs.at("repo.git")}#main`,
      afs.at("m"),
      "-o",
      "rw",
    ];
    afs.park(Deno.execPath(), ...script, afs.at("m"), ...helper);
    const mounts = async () =>
      (await mountInfo()).filter(({ mountPoint }) => mountPoint === afs.at("m")).map((info) =>
        info.fsType
      );
    await waitFor(async () => (await mounts()).length > 0, "automount");
    const look = () => afs.sh('cat "$1/file.txt"', [afs.at("m")]);
    assert.deepEqual(await mounts(), ["autofs"]);
    assert.equal((await look()).stdout, "content 3\n");
    assert.deepEqual(await mounts(), ["autofs", "fuse.afs"]);
    await first.stop("SIGKILL");
    const second = await afs.startDaemon();
    assert.equal((await second.logged("Left to the automount")).length, 1);
    assert.deepEqual(await mounts(), ["autofs"], "what is dead is gone");
    assert.equal((await look()).stdout, "content 3\n");
    await run("umount", [afs.at("m")]);
    assert.equal((await look()).stdout, "content 3\n");
    assert.equal(await second.stop(), 0);
    assert.deepEqual(await mounts(), ["autofs"]);
    await run("umount", ["-l", afs.at("m")]);
  },
);
