/** Logins: a token file, git's own helpers and askpass, and what becomes of a mount without one. */

import assert from "node:assert/strict";
import { startGitServer } from "../support/git_server.ts";
import type { GitServer, Login } from "../support/git_server_api.ts";
import { git, waitFor } from "../support/run.ts";
import { type Cli, cliTest, makeRepo, namesIn } from "./cli_harness.ts";

const ONE = { user: "someone", password: "one-t0ken" };
const TWO = { user: "someone", password: "two-t0ken" };

interface World extends AsyncDisposable {
  readonly server: GitServer;
  readonly gitDir: string;
  readonly url: string;
  /** Of the token file. */
  readonly path: string;
}

/** A server that wants a login, and the file that holds it. */
async function closed(afs: Cli, login: Login = ONE): Promise<World> {
  const gitDir = afs.at("srv", "repo.git");
  await makeRepo(gitDir);
  const server = startGitServer({ root: afs.at("srv"), login });
  const path = afs.at("token");
  await Deno.writeTextFile(path, tokenOf(login), { mode: 0o600 });
  return {
    server,
    gitDir,
    url: server.url("repo"),
    path,
    [Symbol.asyncDispose]: () => server.close(),
  };
}

function tokenOf({ user, password }: Login): string {
  return `${user}:${password}\n`;
}

async function renew(world: World, login: Login): Promise<void> {
  // As it is done by whoever does it well.
  await Deno.writeTextFile(`${world.path}.new`, tokenOf(login), { mode: 0o600 });
  await Deno.rename(`${world.path}.new`, world.path);
}

async function push(gitDir: string): Promise<void> {
  const args = ["commit-tree", "-p", "main", "-m", "pushed", "main^{tree}"];
  const { stdout } = await git(["-C", gitDir, ...args]);
  await git(["-C", gitDir, "update-ref", "refs/heads/main", stdout.trim()]);
}

async function cat(afs: Cli, path: string): Promise<string> {
  return (await afs.sh('cat "$1"', [afs.at(path)])).stdout;
}

/** That it cannot be read, and why. */
async function catFails(afs: Cli, path: string): Promise<void> {
  const { code, stderr } = await afs.sh('cat "$1"', [afs.at(path)], { okCodes: "any" });
  assert.equal(code, 1);
  assert.match(stderr, /Input\/output error/);
}

/** A failed oid fails at once for some seconds: what is renewed is seen after that. */
async function untilRead(afs: Cli, path: string): Promise<string> {
  return await waitFor(() => cat(afs, path), `contents of ${path}`);
}

async function assertUsed(afs: Cli, { gitDir }: World): Promise<void> {
  assert.equal(await cat(afs, "m/file.txt"), "content 3\n");
  assert.equal((await afs.statusOf("m")).history, "full");
  await push(gitDir);
  assert.equal((await afs.json(["fetch", "m"])).behind, 1);
  const show = await afs.sh('git -C "$1" show HEAD~1:file.txt', [afs.at("m")]);
  assert.equal(show.stdout, "content 2\n");
}

async function tempDirIn(dir: string): Promise<{ readonly token: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir({ dir, prefix: "afs-test-" });
  const remove = () => Deno.remove(path, { recursive: true });
  return { token: `${path}/token`, [Symbol.asyncDispose]: remove };
}

const QUIET = ["--refresh", "never"];

cliTest(
  "--token-file: a relative path, a restart, and the last mount goes with its link",
  async (afs) => {
    await using world = await closed(afs);
    const { url, path } = world;
    await afs.ok(["mount", url, "m", "--token-file", "token", "--wait=history", ...QUIET]);
    await assertUsed(afs, world);
    assert.equal((await afs.json(["status", "m"])).repos[0].tokenFile, path);
    const [name = ""] = await namesIn(afs.at("state", "credentials"));
    assert.match(name, /^[0-9a-f]{16}\.token$/);
    await afs.endDaemon();
    await afs.startDaemon();
    assert.equal(await cat(afs, "m/dir/other.txt"), "other\n");
    // A second work tree of the store, whose login is the same file, and stays when the first goes.
    await afs.ok(["mount", url, "n", "--token-file", path, "--ref", "feature", ...QUIET]);
    await afs.ok(["remove-repo", "m"]);
    assert.equal(await cat(afs, "n/file.txt"), "content 1\n");
    await afs.ok(["fetch", "n"]);
    await afs.ok(["remove-repo", "n"]);
    await afs.endDaemon();
    await afs.assertNothingLeft();
    assert.equal(await Deno.readTextFile(path), tokenOf(ONE));
  },
);

cliTest("--token-file: a token alone, and what the file may not be", async (afs) => {
  await using world = await closed(afs, { user: "x-access-token", password: "t0ken" });
  const { url, path, server } = world;
  const mount = (...flags: string[]) => ["mount", url, "m", "--token-file", ...flags];
  await afs.fails(mount("absent"), 129, /token file \/.*absent: it is not there/);
  await afs.fails(mount(afs.dir.path), 129, /it is no file/);
  for (
    const [text, pattern] of [["", /empty/], ["a\nb", /one line/], [
      "x".repeat(5000),
      /long/,
    ]] as const
  ) {
    await Deno.writeTextFile(path, text);
    await afs.fails(mount(path), 129, pattern);
  }
  await Deno.writeTextFile(path, "t0ken");
  const other = ["mount", "--token-file", path];
  await afs.fails([...other, `file://${world.gitDir}`, "m"], 129, /only http and https/);
  await afs.fails([...other, server.url("repo", ONE), "m"], 129, /its URL has a login too/);
  await afs.assertNothingLeft();
  await afs.ok([...mount(path), ...QUIET]);
  assert.equal(await cat(afs, "m/file.txt"), "content 3\n");
  await afs.ok(["remove-repo", "m"]);
  // Where the program itself may not look, git does.
  await using shared = await tempDirIn("/dev/shm");
  await afs.fails(mount(shared.token), 129, /it is not there/);
  await Deno.writeTextFile(shared.token, "");
  await afs.fails(mount(shared.token), 3, /there is no token \(token file .*: it is empty\)/);
  await Deno.writeTextFile(shared.token, "t0ken");
  await afs.ok([...mount(shared.token), ...QUIET]);
  assert.equal(await cat(afs, "m/file.txt"), "content 3\n");
});

cliTest("--token-file: renewed during the life of a mount, by either order", async (afs) => {
  await using world = await closed(afs);
  const { url, path, server, gitDir } = world;
  await afs.ok(["mount", url, "m", "--token-file", path, "--wait=history", ...QUIET]);

  // The file first: nobody sees anything of it.
  assert.equal(await cat(afs, "m/file.txt"), "content 3\n");
  await renew(world, TWO);
  server.set({ login: TWO });
  server.resetCounters();
  assert.equal(await cat(afs, "m/dir/other.txt"), "other\n");
  // Our client had the old one in memory: one request is refused, and one is not.
  assert.deepEqual(server.requestLog.map(({ status }) => status), [401, 200]);
  await push(gitDir);
  assert.equal((await afs.json(["fetch", "m"])).behind, 1);

  // The server first: a failure that says so, until the file has it.
  await afs.ok(["mount", url, "n", "--token-file", path, "--ref", "feature", ...QUIET]);
  server.set({ login: ONE });
  await catFails(afs, "n/file.txt");
  const { result } = await afs.statusOf("n");
  assert.match(result, /^Cannot fetch contents: it needs a login, or the one given was refused/);
  await afs.fails(["fetch", "m"], 3, /needs a login/);
  const [background] = await afs.background();
  const logged = await background?.logged("Object not available") ?? [];
  assert.match(String(logged.at(-1)?.["cause"]), /the one given was refused/);
  await renew(world, ONE);
  assert.equal(await untilRead(afs, "n/file.txt"), "content 1\n");
  await push(gitDir);
  assert.equal((await afs.json(["fetch", "m"])).behind, 2);
  assert.equal((await afs.statusOf("n")).result, "ok");

  // It is gone, or empty, for a moment.
  await Deno.rename(path, `${path}.away`);
  const missing = await afs.fails(["fetch", "m"], 3, /there is no token \(token file .*not there/);
  assert.ok(missing.includes(path));
  await Deno.writeTextFile(path, "\n");
  await afs.fails(["fetch", "m"], 3, /token file .*: it is empty/);
  await Deno.rename(`${path}.away`, path);
  await afs.ok(["fetch", "m"]);
});

cliTest("another login with a later mount: URL, file and URL again", async (afs) => {
  await using world = await closed(afs);
  const { url, path, server } = world;
  const again = async (given: string, ...flags: string[]) => {
    await afs.ok(["mount", given, "m", ...flags, ...QUIET]);
    await afs.ok(["fetch", "m"]);
    const show = await afs.sh('git -C "$1" fetch origin', [afs.at("m")]);
    assert.equal(show.code, 0);
    return [
      (await namesIn(afs.at("state", "credentials"))).map((name) => name.slice(16)),
      (await afs.json(["status", "m"])).repos[0].tokenFile,
    ];
  };
  assert.deepEqual(await again(server.url("repo", ONE)), [[""], null]);
  assert.deepEqual(await again(url, "--token-file", path), [[".token"], path]);
  server.set({ login: TWO });
  assert.deepEqual(await again(server.url("repo", TWO)), [[""], null]);
  await Deno.writeTextFile(`${path}2`, tokenOf(TWO));
  assert.deepEqual(await again(url, "--token-file", `${path}2`), [[".token"], `${path}2`]);
  // Without any, what there is stays.
  assert.deepEqual(await again(url), [[".token"], `${path}2`]);
  await afs.fails(["mount", url, "m", "--token-file", "nowhere"], 129, /it is not there/);
  assert.deepEqual(await again(url), [[".token"], `${path}2`]);
});

cliTest("--token-file -: read once, and kept as one of a URL", async (afs) => {
  await using world = await closed(afs, { user: "some one", password: "p%40/:?#ü" });
  const { url, server } = world;
  const stdin = "some one:p%40/:?#ü\n";
  await afs.fails(["mount", url, "m", "--token-file", "-"], 129, /standard input: it is empty/);
  const background = ["add-repo", "--name", "m", "--remote", url, "--mount-root", afs.dir.path];
  await afs.fails([...background, "--async", "--token-file=-"], 129, /its URL has a login/, {
    stdin,
  });
  await afs.ok(["mount", url, "m", "--token-file", "-", "--wait=history", ...QUIET], { stdin });
  await assertUsed(afs, world);
  const [name = ""] = await namesIn(afs.at("state", "credentials"));
  const kept = await Deno.readTextFile(afs.at("state", "credentials", name));
  assert.equal(kept, "username=some one\npassword=p%40/:?#ü\n");
  server.set({ login: TWO });
  await afs.ok(["mount", url, "m", "--token-file=-"], { stdin: tokenOf(TWO) });
  await afs.ok(["fetch", "m"]);
});

cliTest("--token-file with --async: its path waits with the rest, over a restart", async (afs) => {
  await using world = await closed(afs);
  const { url, path, server } = world;
  await afs.startDaemon();
  const add = ["add-repo", "--name", "m", "--remote", url, "--mount-root", afs.dir.path, "--async"];
  await afs.fails([...add, "--token-file", "absent"], 129, /it is not there/);
  // Refused, and tried again with what is in the file then.
  await renew(world, TWO);
  await afs.ok([...add, "--token-file", path, ...QUIET]);
  await waitFor(async () => (await afs.statusOf("m")).state === "failed", "failure");
  const [failed] = (await afs.json(["status"])).repos;
  assert.match(failed.prepareError, /needs a login/);
  assert.equal(failed.tokenFile, path);
  await afs.endDaemon();
  await afs.startDaemon();
  await renew(world, ONE);
  await afs.ok(["prepare", "--name", "m"]);
  assert.equal(await cat(afs, "m/file.txt"), "content 3\n");
  assert.equal((await afs.json(["status", "m"])).repos[0].tokenFile, path);
  server.set({ login: TWO });
  await renew(world, TWO);
  await afs.ok(["fetch", "m"]);
});

cliTest("a token file for the mount's owner, and none of this user's", async (afs) => {
  await using world = await closed(afs);
  const { url, path } = world;
  const owner = ["--uid", "65534", "--gid", "65534"];
  await afs.ok(["mount", url, "m", "--token-file", path, ...owner, "--wait=history", ...QUIET]);
  // The daemon reads it, the owner may not, and is told.
  assert.equal(await cat(afs, "m/file.txt"), "content 3\n");
  const fetch = async () => {
    const command = new Deno.Command("git", {
      args: ["-C", afs.at("m"), "fetch", "origin"],
      uid: 65534,
      gid: 65534,
      clearEnv: true,
      env: { PATH: afs.env["PATH"] ?? "", GIT_TERMINAL_PROMPT: "0", HOME: "/nonexistent" },
    });
    const { code, stderr } = await command.output();
    return { code, stderr: new TextDecoder().decode(stderr) };
  };
  const refused = await fetch();
  assert.equal(refused.code, 128);
  assert.match(refused.stderr, /^afs: token file .*\/token: it is not there, or cannot be read$/m);
  await Deno.chmod(path, 0o644);
  assert.deepEqual(await fetch(), { code: 0, stderr: "" });
  // They cannot have it lead elsewhere.
  const link = await afs.sh('stat -c "%u %A" "$1"; stat -c "%u %a" "$1"/*', [
    afs.at("state", "credentials"),
  ]);
  assert.match(link.stdout, /^0 drwx--x--x\n0 777\n$/);
});

/** Mounts and uses it with nothing but what git finds by itself. */
async function withGitsOwn(afs: Cli, world: World): Promise<void> {
  await afs.fails(["mount", world.server.url("repo", TWO), "m"], 3, /needs a login/);
  await afs.ok(["mount", world.url, "m", "--wait=history", ...QUIET]);
  await assertUsed(afs, world);
  assert.deepEqual(await namesIn(afs.at("state", "credentials")), []);
}

cliTest("a helper of the user's configuration: store", async (afs) => {
  await using world = await closed(afs);
  await afs.sh("git config --global credential.helper store");
  await Deno.writeTextFile(afs.at("home", ".git-credentials"), `${world.server.url("", ONE)}\n`);
  await withGitsOwn(afs, world);
  // What git puts away when it is refused is git's affair; a new one there is used.
  world.server.set({ login: TWO });
  await afs.fails(["fetch", "m"], 3, /needs a login/);
  await Deno.writeTextFile(afs.at("home", ".git-credentials"), `${world.server.url("", TWO)}\n`);
  await afs.ok(["fetch", "m"]);
});

cliTest("a helper of the user's configuration: cache", async (afs) => {
  await using world = await closed(afs);
  await afs.sh('git config --global credential.helper "cache --socket $1"', [afs.at("cache", "s")]);
  await Deno.mkdir(afs.at("cache"), { mode: 0o700 });
  const login = `url=${world.url}\nusername=${ONE.user}\npassword=${ONE.password}\n`;
  await afs.sh("git credential approve", [], { stdin: login });
  try {
    await withGitsOwn(afs, world);
  } finally {
    await afs.sh('git credential-cache --socket "$1" exit', [afs.at("cache", "s")]);
  }
});

cliTest("a helper of the system's configuration: a program", async (afs) => {
  await using world = await closed(afs);
  const lines = `username=${ONE.user}\\npassword=${ONE.password}\\n`;
  await Deno.writeTextFile(afs.at("helper"), `#!/bin/sh\ntest $1 != get || printf '${lines}'\n`);
  await Deno.chmod(afs.at("helper"), 0o755);
  delete afs.env["GIT_CONFIG_NOSYSTEM"];
  afs.env["GIT_CONFIG_SYSTEM"] = afs.at("system");
  await afs.sh('git config --system credential.helper "$1"', [afs.at("helper")]);
  await withGitsOwn(afs, world);
});

cliTest(
  "GIT_ASKPASS of whoever starts the daemon answers; those of a desktop are not asked",
  async (afs) => {
    await using world = await closed(afs);
    const script = `#!/bin/sh\necho "$1" >>"$0.asked"\n` +
      `case $1 in Username*) echo ${ONE.user} ;; *) echo ${ONE.password} ;; esac\n`;
    await Deno.writeTextFile(afs.at("askpass"), script);
    await Deno.chmod(afs.at("askpass"), 0o755);
    await afs.sh('git config --global core.askPass "$1"', [afs.at("askpass")]);
    afs.env["SSH_ASKPASS"] = afs.at("askpass");
    await afs.fails(["mount", world.url, "m"], 3, /needs a login/);
    await afs.assertNothingLeft();
    await assert.rejects(Deno.stat(afs.at("askpass.asked")), Deno.errors.NotFound);
    afs.env["GIT_ASKPASS"] = afs.at("askpass");
    await withGitsOwn(afs, world);
    const asked = await Deno.readTextFile(afs.at("askpass.asked"));
    assert.match(asked, /^Username for 'http:\/\/127\.0\.0\.1:\d+': $/m);
  },
);
