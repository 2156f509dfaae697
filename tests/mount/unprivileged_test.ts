/**
 * afs of a user who may not mount: through fusermount3, or in a user namespace of their own; and
 * what it says where neither works. The rest of the suite runs as root.
 */

import assert from "node:assert/strict";
import { git, run, waitFor } from "../support/run.ts";
import { makeRepo, namesIn } from "./cli_harness.ts";
import { withGuard, without } from "./harness.ts";
import {
  USER,
  type UserLab,
  userTest,
  withoutFusermount,
  withoutUserNamespaces,
} from "./user_harness.ts";

const NEEDS_FUSERMOUNT = { skip: await withoutFusermount() };
const NEEDS_NAMESPACES = { skip: await withoutUserNamespaces() };

const PRIVATE = "Other users, root too, cannot look into the mounts";

/** A repository on a server; its URL and its git directory. */
async function serveRepo(lab: UserLab): Promise<{ url: string; gitDir: string }> {
  const gitDir = lab.at("repo.git");
  await makeRepo(gitDir);
  await lab.share(gitDir, "repo");
  return { url: lab.serve().url("repo"), gitDir };
}

async function daemonLog(lab: UserLab): Promise<string> {
  return await Deno.readTextFile(`${lab.stateRoot}/daemon.log`).catch(() => "");
}

async function realFusermount(): Promise<string> {
  return (await run("sh", ["-c", "command -v fusermount3"])).stdout.trim();
}

/** Kills the daemon in the background, and waits until it is gone. */
function kill(lab: UserLab): Promise<void> {
  return lab.endDaemon("SIGKILL");
}

/** Somebody whose working directory is the mount. */
async function enterMount(lab: UserLab, mountPoint: string) {
  const parked = lab.parkInside({ cwd: mountPoint }, "sleep", "1000");
  await waitFor(async () => {
    const script = '[ "$(readlink "/proc/$1/cwd")" = "$2" ] && grep -q sleep "/proc/$1/comm"';
    const args = ["-c", script, "sh", `${parked.pid}`, mountPoint];
    return (await run("sh", args, { okCodes: "any" })).code === 0;
  }, "process in the mount");
  return parked;
}

userTest("a user: git, writes, fetch, switch, unmount, by fusermount3", async (lab) => {
  const { url, gitDir } = await serveRepo(lab);
  const [a, b] = [lab.at("mnt", "a"), lab.at("mnt", "b")];
  await lab.ok(["mount", url, a, "--wait=history"]);
  await lab.ok(["mount", url, b]);
  assert.deepEqual(await lab.mounts(), [a, b]);
  const options = new Set(await lab.mountOptions(a));
  for (const wanted of [`user_id=${USER}`, `group_id=${USER}`, "default_permissions"]) {
    assert.ok(options.has(wanted), wanted);
  }
  for (const wanted of ["nosuid", "nodev"]) assert.ok(options.has(wanted), wanted);
  assert.ok(!options.has("allow_other"));
  assert.equal((await daemonLog(lab)).split(PRIVATE).length - 1, 1, "said once");
  const c = lab.at("mnt", "c");
  await lab.ok(["mount", "--read-only", url, c]);
  assert.ok((await lab.mountOptions(c)).includes("ro"));
  const written = await lab.sh('cat "$1/file.txt"; echo >"$1/new"', [c], { okCodes: "any" });
  assert.match(written.stderr, /Read-only file system/);
  await lab.ok(["remove-repo", "mnt/c"]);

  const root = await lab.sh('ls "$1"', [a], { root: true, okCodes: "any" });
  assert.match(root.stderr, /Permission denied/);
  const owner = await run("stat", ["-c", "%u:%g %a", lab.stateRoot]);
  assert.equal(owner.stdout, `${USER}:${USER} 711\n`);

  const work = `cd "$1"
    [ "$(stat -c %u .)" = ${USER} ]
    git status --porcelain
    cat file.txt
    echo more >>file.txt; mkdir new; echo n >new/n; rm dir/other.txt
    git status --porcelain
    git add -A; git commit -qm mine; git status --porcelain; git log --oneline | wc -l`;
  const worked = await lab.sh(work, [a]);
  assert.equal(
    worked.stdout,
    "content 3\n D dir/other.txt\n M file.txt\n?? new/\n4\n",
  );
  const tree = "main^{tree}";
  const made = await git(["-C", gitDir, "commit-tree", "-p", "main", "-m", "pushed", tree]);
  await git(["-C", gitDir, "update-ref", "refs/heads/main", made.stdout.trim()]);
  await lab.ok(["fetch", "mnt/a"]);
  const remote = await lab.sh('git -C "$1" rev-parse origin/main', [a]);
  assert.equal(remote.stdout, made.stdout);

  // The kernel holds what it must forget.
  await lab.sh('cat "$1/file.txt"; ls -lR "$1"', [b]);
  await lab.ok(["switch", "feature", "mnt/b"]);
  const switched = await lab.sh('cat "$1/file.txt"; git -C "$1" status -sb', [b]);
  assert.match(switched.stdout, /^content 1\n## feature.*\n$/);

  const inside = await enterMount(lab, a);
  await lab.fails(["unmount", "mnt/a"], 6, /in use/);
  await lab.fails(["remount", "mnt/a"], 6, /in use/);
  assert.deepEqual(await lab.mounts(), [a, b]);
  await lab.ok(["unmount", "mnt/a", "--force"]);
  assert.deepEqual(await lab.mounts(), [b]);
  inside.kill("SIGKILL");
  await lab.ok(["mount", url, a]);
  const kept = await lab.sh('cat "$1/new/n"; git -C "$1" status --porcelain', [a]);
  assert.equal(kept.stdout, "n\n");
  // By hand, as anybody would.
  await lab.sh('fusermount3 -u "$1"', [a]);
  await waitFor(
    async () => (await lab.json(["status", "mnt/a"])).repos[0].state !== "mounted",
    "end",
  );
  await lab.ok(["remount", "mnt/a"]);
  await lab.ok(["unmount", "mnt/b"]);
  await enterMount(lab, a);
  const [daemon] = await lab.daemons();
  await daemon?.stop("SIGTERM");
  assert.match(await daemonLog(lab), /"msg":"Stopped"}\n$/);
  assert.deepEqual(await lab.mounts(), []);
}, NEEDS_FUSERMOUNT);

userTest("a user: a daemon that is killed leaves nothing that stays dead", async (lab) => {
  const { url } = await serveRepo(lab);
  const a = lab.at("mnt", "a");
  const read = async () => (await lab.sh('cat "$1/mine"', [a])).stdout;
  const assertDead = async () => {
    assert.deepEqual(await lab.mounts(), [a]);
    const { stderr } = await lab.sh('ls "$1"', [a], { okCodes: "any" });
    assert.match(stderr, /not connected/);
  };
  await lab.ok(["mount", url, a]);
  await lab.sh('echo kept >"$1/mine"', [a]);
  await enterMount(lab, a);
  await kill(lab);
  await assertDead();
  await lab.ok(["mount", url, a]);
  assert.equal(await read(), "kept\n");
  await kill(lab);
  await assertDead();
  await lab.ok(["remount", "mnt/a"]);
  assert.equal(await read(), "kept\n");
  await kill(lab);
  await assertDead();
  // No daemon is there to do it.
  await lab.ok(["unmount", "mnt/a"]);
  assert.deepEqual(await lab.mounts(), []);
  await lab.ok(["remount", "mnt/a"]);
  await kill(lab);
  await assertDead();
  const daemon = await lab.startDaemon({ under: lab.under });
  assert.equal(await read(), "kept\n");
  assert.deepEqual(await lab.mounts(), [a]);
  // Ctrl-C is for all of the terminal's processes.
  Deno.kill(-daemon.pid, "SIGINT");
  assert.equal(await daemon.ended(), 0);
  assert.deepEqual(await lab.mounts(), []);
}, NEEDS_FUSERMOUNT);

userTest("a user: /etc/fuse.conf may let others look in, and may bound mounts", async (lab) => {
  const { url } = await serveRepo(lab);
  const a = lab.at("mnt", "a");
  await Deno.writeTextFile(lab.at("fuse.conf"), "user_allow_other\n");
  await lab.ok(["mount", url, a]);
  assert.ok((await lab.mountOptions(a)).includes("allow_other"));
  const others = await lab.sh('cat "$1/file.txt"', [a], { root: true });
  assert.equal(others.stdout, "content 3\n");
  assert.ok(!(await daemonLog(lab)).includes(PRIVATE));
  await Deno.writeTextFile(lab.at("fuse.conf"), "mount_max = 0\n");
  const args = ["mount", url, lab.at("mnt", "b")];
  await lab.fails(args, 128, /too many FUSE filesystems mounted.*git clone --depth 1 http/);
  assert.deepEqual(await namesIn(lab.at("mnt")), ["a"]);
  await lab.ok(["remove-repo", "mnt/a"]);
  await lab.endDaemon();
  await lab.assertNothingLeft();
}, NEEDS_FUSERMOUNT);

userTest("a user: demo shows all of it", async (lab) => {
  const { stdout } = await lab.ok(["demo"], { env: { TMPDIR: lab.at("mnt") } });
  assert.match(stdout, /hello from a mounted file/);
  assert.deepEqual(await namesIn(lab.at("mnt")), []);
}, NEEDS_FUSERMOUNT);

userTest("a user who cannot mount is told what is missing, and nothing is left", async (lab) => {
  const { url } = await serveRepo(lab);
  const mount = ["mount", url, lab.at("mnt", "a")];
  const wayOut = "git clone --depth 1 http";
  const fails = async (
    what: string,
    pattern: RegExp,
    options: { env?: Record<string, string>; setpriv?: readonly string[] },
  ) => {
    const { code, stdout, stderr } = await lab.runInside([lab.binary, ...mount], {
      okCodes: "any",
      ...options,
    });
    const last = stderr.trimEnd().split("\n").at(-1) ?? "";
    assert.deepEqual([code, stdout], [128, ""], `${what}: ${stderr}`);
    assert.match(last, /^afs: Cannot mount/, what);
    assert.match(last, pattern, what);
    assert.ok(last.includes(wayOut), what);
    assert.deepEqual(await lab.mounts(), [], what);
    assert.deepEqual(await namesIn(lab.at("mnt")), [], what);
    // One that was started for this goes by itself.
    await waitFor(async () => (await lab.daemons()).length === 0, "end of the daemon");
    await lab.assertNothingLeft();
  };
  const path = lab.at("bin");
  for (const program of ["git", "sh"]) {
    const { stdout } = await run("sh", ["-c", 'command -v "$1"', "sh", program]);
    await Deno.symlink(stdout.trim(), `${path}/${program}`);
  }
  await fails("no helper", /no fusermount3 in PATH; install fuse3/, { env: { PATH: path } });
  const fakes: readonly [string, RegExp][] = [
    [
      'echo "fusermount3: mount failed: Operation not permitted" >&2; exit 1',
      /fusermount3 refused with status 1: mount failed: Operation not permitted; run .* as root/,
    ],
    ["kill -9 $$", /fusermount3 refused with status 137/],
    ["exit 0", /fusermount3 handed over no device/],
    ["exec >&- 2>&-; exec sleep 1000", /fusermount3 was ended: nothing after 10 s/],
  ];
  for (const [script, pattern] of fakes) {
    await fails(script, pattern, { env: await lab.fake(script) });
  }

  const env = await lab.fake("exit 1");
  const bounded = ["--bounding-set=-all"];
  await fails("a container", /not even root has; .* SYS_ADMIN/, { env, setpriv: bounded });
  await fails("no_new_privs", /no_new_privs is set/, { env, setpriv: ["--no-new-privs"] });
  await Deno.chmod(lab.at("fuse"), 0o600);
  await fails("the device", /\/dev\/fuse may not be opened by this user \(mode 0600, owner 0\)/, {
    env,
  });
});

userTest("a user: a fusermount3 that mounts and then hangs leaves no mount", async (lab) => {
  const { url } = await serveRepo(lab);
  const [a, made] = [lab.at("mnt", "a"), lab.at("home", "made")];
  const real = await realFusermount();
  await Deno.writeTextFile(lab.at("fuse.conf"), "user_allow_other\n");
  // It has the device sent to itself, and keeps it.
  const keep = "use Socket; $^F = 99; socketpair(A, B, AF_UNIX, SOCK_STREAM, 0) or die; " +
    "$ENV{_FUSE_COMMFD} = fileno B; system @ARGV; " +
    `system "grep fuse.afs /proc/self/mountinfo >>${made}"; sleep 1000`;
  const env = await lab.fake(
    `case $1 in -u) exec ${real} "$@"; esac\nexec perl -e '${keep}' ${real} "$@"`,
  );
  await lab.fails(["mount", url, a], 128, /fusermount3 was ended: nothing after 10 s/, { env });
  assert.ok((await Deno.readTextFile(made)).includes(` ${a} `));
  await waitFor(async () => (await lab.daemons()).length === 0, "end of the daemon");
  await lab.assertNothingLeft();
}, { skip: NEEDS_FUSERMOUNT.skip ?? await without("perl") });

userTest(
  "a user: a fusermount3 that hangs when it is to unmount does not stop the daemon",
  async (lab) => {
    const { url } = await serveRepo(lab);
    const [a, b] = [lab.at("mnt", "a"), lab.at("mnt", "b")];
    const real = await realFusermount();
    const env = await lab.fake(`case $1 in -u) exec sleep 1000;; esac\nexec ${real} "$@"`);
    await lab.ok(["mount", url, a], { env });
    const refused = lab.fails(["unmount", "mnt/a"], 1, /fusermount3 was ended: nothing after 10 s/);
    // Meanwhile all goes on.
    await lab.ok(["mount", url, b]);
    const { stdout } = await lab.sh('cat "$1/file.txt" "$2/file.txt"', [a, b]);
    assert.equal(stdout, "content 3\ncontent 3\n");
    await refused;
    assert.deepEqual(await lab.mounts(), [a, b]);
    await lab.sh('cat "$1/file.txt"', [a]);
    await lab.fake(`exec ${real} "$@"`);
    await lab.ok(["unmount", "mnt/a"]);
  },
  NEEDS_FUSERMOUNT,
);

userTest("a user: whoever waits in a mount that is taken away is let go", async (lab) => {
  const a = lab.at("mnt", "a");
  await Deno.mkdir(a);
  await Deno.chown(a, USER, USER);
  // Programs and sources where the user can reach them, and the kernel's list of connections.
  const prepare = `cd "$1"; : >deno; mkdir src; mount --bind "$2" deno; mount --bind "$3" src
    mount -t fusectl none /sys/fs/fuse/connections`;
  const top = new URL("../..", import.meta.url).pathname;
  await lab.sh(prepare, [lab.dir.path, Deno.execPath(), top], { root: true });
  const flags = ["run", "-A", "--quiet", "--no-check", "--no-config", "--no-lock"];
  const main = lab.at("src", "tests", "mount", "user_mount_main.ts");
  const [first = "", ...more] = lab.inside();
  const holder = new Deno.Command(first, {
    args: [...more, lab.at("deno"), ...flags, main, a],
    clearEnv: true,
    env: { ...lab.env, DENO_NO_UPDATE_CHECK: "1" },
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const out = holder.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const input = holder.stdin.getWriter();
  try {
    assert.equal((await out.read()).value, '{"byHelper":true,"allowsOthers":false}\n');
    const info = (await lab.infos()).find(({ mountPoint }) => mountPoint === a);
    assert.ok(info !== undefined);
    assert.equal(info.source, "a,b\\c d");
    const waiting = lab.parkInside({ cwd: "/" }, "ls", `${a}/x`);
    const counter = `/sys/fs/fuse/connections/${info.device.split(":")[1]}/waiting`;
    await waitFor(async () => {
      const { stdout } = await lab.sh('cat "$1"', [counter], { root: true });
      // INIT is the other one.
      return Number(stdout) === 2;
    }, "process that waits");
    await input.write(new TextEncoder().encode("\n"));
    assert.equal((await out.read()).value, "detached\n");
    assert.equal(await withGuard(waiting.exited, 30_000, "end of who waits"), 2);
    assert.deepEqual(await lab.mounts(), []);
  } finally {
    await input.close();
    await out.cancel();
    await holder.status;
  }
}, NEEDS_FUSERMOUNT);

userTest("a user namespace: mounts by itself, and replaces what died", async (lab) => {
  const { url } = await serveRepo(lab);
  const env = await lab.fake("echo not needed; exit 1");
  const script = `
    afs=$1 url=$2 a=$3 log=$4
    mounts() { grep -F " $a " /proc/self/mountinfo || :; }
    [ "$(id -u)" = 0 ]
    "$afs" mount "$url" "$a" >/dev/null
    mounts | sed 's/.* - //'
    [ "$(stat -c %u:%g "$a/file.txt")" = 0:0 ]
    echo mine >"$a/mine"
    git -C "$a" status --porcelain
    pid=$(sed -n 's/.*"Starting".*"pid":\\([0-9]*\\).*/\\1/p' "$log" | tail -n 1)
    kill -9 "$pid"
    while "$afs" status --json "$a" | grep -q '"state":"mounted"'; do :; done
    if ls "$a" 2>/dev/null; then exit 1; fi
    "$afs" remount "$a"
    cat "$a/mine"
    (cd "$a"; if "$afs" unmount "$a" 2>/dev/null; then exit 1; fi)
    "$afs" unmount "$a"
    [ "$(mounts)" = "" ]
    "$afs" remount "$a"
    pid=$(sed -n 's/.*"Starting".*"pid":\\([0-9]*\\).*/\\1/p' "$log" | tail -n 1)
    kill -9 "$pid"
    "$afs" unmount "$a"
    [ "$(mounts)" = "" ]
    "$afs" remove-repo --force "$a"`;
  const [a, log] = [lab.at("mnt", "a"), `${lab.stateRoot}/daemon.log`];
  const unshare = ["unshare", "--user", "--map-root-user"];
  const command = [...unshare, "--mount", "sh", "-euc", script, "sh", lab.binary, url, a, log];
  const { stdout } = await lab.runInside(command, { env });
  assert.equal(
    stdout.replace(/^(fuse\.afs) \S+ rw,/, "$1 "),
    "fuse.afs user_id=0,group_id=0,default_permissions,allow_other,max_read=1048576\n" +
      "?? mine\nmine\n",
  );
  assert.ok(!(await daemonLog(lab)).includes("not needed"));
  await lab.endDaemon();
  await lab.assertNothingLeft();

  // One without a mount namespace of its own may not mount, whoever its root is.
  const alone = [...unshare, lab.binary, "mount", url, a];
  const refused = await lab.runInside(alone, { env, okCodes: "any" });
  assert.equal(refused.code, 128, refused.stderr);
  assert.match(refused.stderr, /fusermount3 refused with status 1: not needed; /);
  await waitFor(async () => (await lab.daemons()).length === 0, "end of the daemon");
  await lab.assertNothingLeft();
}, NEEDS_NAMESPACES);
