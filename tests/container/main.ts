/**
 * What containers of the Dockerfile's image do (see scripts/test_container, which builds it).
 *
 * usage: deno run -A tests/container/main.ts WORK
 */

import assert from "node:assert/strict";
import { allowFilter } from "../mount/harness.ts";
import { startGitServer } from "../support/git_server.ts";
import { git, mountsBelow, run, sleep, waitFor } from "../support/run.ts";
import { Containers } from "./containers.ts";

const [work] = Deno.args as [string];
const containers = await Containers.open(work);
console.log(`with ${(await run(containers.runtime, ["--version"])).stdout.split("\n")[0]}`);

await Deno.mkdir(`${work}/remotes`);
const gitDir = `${work}/remotes/repo.git`;
await git(["init", "--quiet", "--bare", "--initial-branch=main", gitDir]);
await allowFilter(gitDir);
const commit = (branch: string, content: string) =>
  `commit refs/heads/${branch}\ncommitter T <t@example.com> 1700000000 +0000\ndata 2\nc\n` +
  `M 100644 inline file.txt\ndata ${content.length}\n${content}\n`;
await git(["--git-dir", gitDir, "fast-import", "--quiet"], {
  stdin: commit("main", "first\n") + commit("main", "second\n") + commit("other", "other\n"),
});
const server = startGitServer({ root: `${work}/remotes` });
const REPO_REMOTE_URL = server.url("repo.git");
const env = { REPO_REMOTE_URL };
const sh = (script: string) => ["sh", "-c", script];

const sums = { passed: 0, failed: 0 };
async function check(name: string, body: () => Promise<void>): Promise<void> {
  try {
    await body();
    sums.passed++;
    console.log(`ok      ${name}`);
  } catch (error) {
    sums.failed++;
    console.log(`FAILED  ${name}\n${error instanceof Error ? error.message : error}`);
  } finally {
    server.set({ login: null, down: false });
    await containers.endAll();
  }
}

/** The daemon has unmounted, and ended by itself. */
function assertCleanEnd(stderr: string): void {
  assert.match(stderr.trimEnd().split("\n").at(-1) ?? "", /"msg":"Stopped"/, stderr);
}

await check("a command runs in the mount, and its exit code is the container's", async () => {
  const script = "pwd; cat file.txt; git status --short; git log --format=%s; exit 7";
  const { code, stdout, stderr } = await containers.run({
    env: { ...env, REPO_WAIT: "history" },
    args: sh(script),
  });
  assert.equal(stdout, "/mnt/repo\nsecond\nc\nc\n", stderr);
  assert.equal(code, 7);
  assertCleanEnd(stderr);
});

await check("a ref, a name and a mount root", async () => {
  const more = { REPO_REF: "other", REPO_NAME: "n", MOUNT_ROOT: "/srv" };
  const script = "pwd; git symbolic-ref HEAD; cat file.txt";
  const { code, stdout, stderr } = await containers.run({
    env: { ...env, ...more },
    args: sh(script),
  });
  assert.equal(stdout, "/srv/n\nrefs/heads/other\nother\n", stderr);
  assert.equal(code, 0);
});

await check(
  "a login in the URL is used, and is in no output, and not with the command",
  async () => {
    const login = { user: "u", password: "tok3n-of-mine" };
    server.set({ login });
    const script = "cat file.txt; env; cat .git; git config --list; git fetch && echo fetched";
    const { code, stdout, stderr } = await containers.run({
      env: { REPO_REMOTE_URL: server.url("repo.git", login) },
      args: sh(script),
    });
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^second\n[^]*\nfetched\n$/);
    assert.doesNotMatch(stdout + stderr, /tok3n/);
  },
);

await check(
  "what cannot be mounted is a line and an exit code, and no command is run",
  async () => {
    const bad: readonly (readonly [Record<string, string>, number, RegExp])[] = [
      [{ REPO_REMOTE_URL: server.url("absent.git") }, 1, /^afs: Cannot /m],
      [{ ...env, REPO_REF: "absent" }, 1, /^afs: Cannot .*absent/m],
    ];
    for (const [env, expected, pattern] of bad) {
      const { code, stdout, stderr } = await containers.run({ env, args: ["echo", "ran"] });
      assert.equal(code, expected, stderr);
      assert.match(stderr, pattern);
      assert.equal(stdout, "");
      assertCleanEnd(stderr);
    }
    server.set({ down: true });
    const { code, stdout } = await containers.run({ env, args: ["echo", "ran"] });
    assert.deepEqual([code, stdout], [4, ""]);
  },
);

await check("without the right to mount it says what is missing", async () => {
  const { code, stderr } = await containers.run({ env, plain: true, args: ["true"] });
  assert.equal(code, 128);
  assert.match(stderr, /add the capability SYS_ADMIN and the device \/dev\/fuse/);
});

await check("a command that is not there", async () => {
  const { code, stderr } = await containers.run({ env, args: ["no-such-command"] });
  assert.equal(code, 127);
  assertCleanEnd(stderr);
});

await check("neither Node nor Deno is in the image", async () => {
  const look = sh("for name in node deno npm git afs; do command -v $name; done");
  const { stdout } = await containers.run({ entrypoint: look });
  assert.equal(stdout, "/usr/bin/git\n/usr/local/bin/afs\n");
});

await check("orphans are reaped, and nothing is a zombie", async () => {
  const script = `
    for i in 1 2 3; do (sleep 0.1 & echo $! >&2) 2>>/tmp/pids; done
    while for pid in $(cat /tmp/pids); do [ -d /proc/$pid ] && break; done; do
      state=$(sed 's/.*) \\(.\\).*/\\1/' /proc/$pid/stat 2>/dev/null)
      [ "$state" != Z ] || zombies=$((\${zombies:-0} + 1))
      # A moment between its end and its reaping is no failure; a second is.
      [ "\${zombies:-0}" -lt 20 ] || { echo "zombie $pid"; exit 1; }
      sleep 0.05
    done
    echo reaped`;
  const { code, stdout, stderr } = await containers.run({ env, args: sh(script) });
  assert.equal(stdout, "reaped\n", stderr);
  assert.equal(code, 0);
});

for (const signal of ["TERM", "INT", "HUP"]) {
  await check(`SIG${signal} reaches the command, whose exit code counts`, async () => {
    const script = `trap 'echo told; exit 9' ${signal}; echo ready; while :; do sleep 0.1; done`;
    const container = await containers.start({ env, args: sh(script) });
    await waitFor(() => container.output().includes("ready\n"), "command", { timeoutMs: 60_000 });
    await container.kill(signal);
    const { code, stdout, stderr } = await container.ended;
    assert.equal(stdout, "ready\ntold\n");
    assert.equal(code, 9, stderr);
    assertCleanEnd(stderr);
  });
}

await check("a command that a signal ends", async () => {
  const container = await containers.start({ env, args: sh("echo ready; exec sleep 1000") });
  await waitFor(() => container.output().includes("ready\n"), "command", { timeoutMs: 60_000 });
  await container.kill("TERM");
  const { code, stderr } = await container.ended;
  assert.equal(code, 128 + 15);
  assertCleanEnd(stderr);
});

await check("at a terminal: what is typed reaches the command, and Ctrl-C does once", async () => {
  const script = `trap 'echo told' INT; echo ready; read line; echo "read $line"; sleep 2; exit 9`;
  const container = await containers.start({ env, terminal: true, args: sh(script) });
  const shows = (text: string) =>
    waitFor(() => container.output().includes(text), text, { timeoutMs: 60_000 });
  await shows("ready\r\n");
  await container.type("hello\n");
  await shows("read hello");
  await container.type("\x03");
  const { code, stdout } = await container.ended;
  assert.equal(stdout.split("told").length, 2, stdout);
  assert.equal(code, 9, stdout);
  assertCleanEnd(stdout);
});

await check("without a command it stays until SIGTERM, and ends with 0", async () => {
  const container = await containers.start({ env });
  await waitFor(() => container.output().includes("state=mounted"), "mount", {
    timeoutMs: 60_000,
  });
  await container.kill("TERM");
  const { code, stderr } = await container.ended;
  assert.equal(code, 0, stderr);
  assertCleanEnd(stderr);
});

await check("SIGTERM at any moment ends it, with a code that says so or with 0", async () => {
  for (const afterMs of [0, 100, 300, 500, 700, 900, 1200]) {
    const container = await containers.start({ env });
    await waitFor(() => container.output().includes('"Starting"'), "start", { timeoutMs: 60_000 });
    await sleep(afterMs);
    await container.kill("TERM");
    const { code, stderr } = await container.ended;
    assert.ok([0, 130, 143].includes(code), `${code} after ${afterMs} ms: ${stderr}`);
    assertCleanEnd(stderr);
  }
});

await check("what was changed is there again with the same state root", async () => {
  await Deno.mkdir(`${work}/kept`);
  const binds = [{ source: `${work}/kept`, destination: "/var/lib/artifact-fs" }];
  await containers.run({ env, binds, args: sh("echo mine >new; git add new; rm file.txt") });
  server.set({ down: true });
  const { stdout, stderr } = await containers.run({
    env,
    binds,
    args: sh("cat new; git status --short"),
  });
  assert.equal(stdout, "mine\n D file.txt\nA  new\n", stderr);
});

await check("the mount alone in another container, with its git directory bound", async () => {
  const shared = `${work}/shared`;
  const state = `${work}/state`;
  for (const path of [shared, state]) await Deno.mkdir(path);
  await run("sh", ["-c", 'mount --bind "$1" "$1" && mount --make-shared "$1"', "sh", shared]);
  try {
    const first = await containers.start({
      env: { ...env, REPO_WAIT: "history" },
      binds: [
        { source: shared, destination: "/mnt", options: ["rshared"] },
        { source: state, destination: "/var/lib/artifact-fs" },
      ],
    });
    await waitFor(() => first.output().includes("state=mounted"), "mount", { timeoutMs: 60_000 });
    assert.deepEqual(await mountsBelow(shared), [`${shared}/repo`, shared]);
    const only = async (dir: string) => {
      const names = (await Array.fromAsync(Deno.readDir(`${state}/${dir}`))).filter((entry) =>
        entry.isDirectory
      );
      assert.equal(names.length, 1);
      return `${dir}/${names[0]?.name}`;
    };
    const at = (path: string, ...options: string[]) => ({
      source: `${state}/${path}`,
      destination: `/var/lib/artifact-fs/${path}`,
      options,
    });
    const { code, stdout, stderr } = await containers.run({
      entrypoint: sh(`
        cd /there/repo; cat file.txt; git status --short; git log --format=%s
        echo new >new; git add new; git -c user.name=A -c user.email=a@example.com commit -qm mine
        git log --format=%s -1; git status --short; ls /var/lib/artifact-fs; git fetch && echo fetched`),
      plain: true,
      binds: [
        { source: `${shared}/repo`, destination: "/there/repo" },
        at(await only("gitdirs")),
        at(`${await only("stores")}/git/objects`, "ro"),
      ],
    });
    assert.equal(stdout, "second\nc\nc\nmine\ngitdirs\nstores\nfetched\n", stderr);
    assert.equal(code, 0);
    await first.kill("TERM");
    assert.equal((await first.ended).code, 0);
    assert.deepEqual(await mountsBelow(shared), [shared], "it is unmounted everywhere");
  } finally {
    await run("umount", ["-R", "-l", shared]);
  }
});

await server.close();
console.log(`\n${sums.passed} passed, ${sums.failed} failed`);
Deno.exit(sums.failed === 0 ? 0 : 1);
