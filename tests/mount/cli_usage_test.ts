/** Arguments, help, version and bad input of the compiled binary. Nothing here gets a mount. */

import assert from "node:assert/strict";
import { makeEmptyRepo } from "../support/repos.ts";
import { startGitServer } from "../support/git_server.ts";
import { run } from "../support/run.ts";
import { cliTest, makeCli, makeRepo } from "./cli_harness.ts";
import { AFS } from "./harness.ts";

const VERBS = [
  "mount",
  "unmount",
  "remount",
  "add-repo",
  "remove-repo",
  "list-repos",
  "status",
  "fetch",
  "set-refresh",
  "daemon",
  "shutdown",
  "events",
  "logs",
  "log-level",
  "demo",
  "completion",
  "man",
];

Deno.test("help and version", async () => {
  await using afs = await makeCli();
  const bare = await afs.run([]);
  assert.equal(bare.code, 1);
  assert.match(bare.stdout, /^Usage: afs <command>/);
  const help = await afs.ok(["--help"]);
  assert.equal(help.stdout, bare.stdout);
  for (const code of ["0", "1", "3", "4", "5", "6", "128", "129", "130"]) {
    assert.match(help.stdout, new RegExp(`^  ${code}  +\\S`, "m"));
  }
  for (const verb of VERBS) {
    assert.match(help.stdout, new RegExp(`^  ${verb}\\b`, "m"));
    assert.match((await afs.ok(["help", verb])).stdout, new RegExp(`^Usage: afs ${verb}\\b`));
  }
  assert.equal((await afs.ok(["help", "help"])).stdout, help.stdout);
  assert.doesNotMatch((await afs.ok(["daemon", "--help"])).stdout, /--background/);
  const version = await afs.ok(["--version"]);
  for (
    const part of [/^afs \d/m, /^git \d/m, /^Deno \d/m, /^FUSE protocol 7\.\d/m, /^kernel \S/m]
  ) {
    assert.match(version.stdout, part);
  }
});

Deno.test("wrong usage ends with 129 and one line", async () => {
  await using afs = await makeCli();
  const cases: string[][] = [
    ["no-such-verb"],
    ["statsu"],
    ["--no-such-option"],
    ["help", "no-such-verb"],
    ["help", "--no-such-option"],
    ["mount"],
    ["mount", "--no-such-option", "x"],
    ["mount", "x", "y", "z"],
    ["mount", "--depth", "0", "/x"],
    ["mount", "--depth", "two", "/x"],
    ["mount", "--wait", "forever", "/x"],
    ["unmount"],
    ["unmount", "/x", "--name", "y"],
    ["remount"],
    ["fetch"],
    ["fetch", "/x", "--name", "y"],
    ["set-refresh", "--name", "x"],
    ["set-refresh", "--interval", "5m"],
    ["set-refresh", "--name", "x", "--interval", "5"],
    ["set-refresh", "--name", "x", "--interval", "0s"],
    ["set-refresh", "--name", "x", "--interval", "1d"],
    ["remove-repo"],
    ["add-repo", "--name", "x"],
    ["add-repo", "--name", "x", "--remote", "/y", "--branch", "a", "--ref", "b"],
    ["daemon", "--hydration-concurrency", "0"],
    ["daemon", "--root", "relative"],
    ["mount", "", "x"],
    ["mount", "ext::sh -c id", "x"],
    ["mount", "https://host/x", "x", "--uid", "1"],
  ];
  for (const args of cases) {
    const result = await afs.run(args);
    assert.equal(result.code, 129, `${args.join(" ")}: ${result.stderr}`);
    assert.match(result.stderr, /^afs: .*\n$/, args.join(" "));
    assert.equal(result.stdout, "");
  }
  await afs.assertNothingLeft();
});

Deno.test("in a directory that is gone: the runtime ends before us, scripts/afs does not", async () => {
  await using afs = await makeCli();
  const script = 'mkdir "$1/gone"; cd "$1/gone"; rmdir "$1/gone"; shift; exec "$@"';
  const inGone = (...command: string[]) =>
    afs.sh(script, [afs.dir.path, ...command, "list-repos"], { okCodes: "any" });
  // The README's limit. Should this fail one day, the limit is gone.
  const bare = await inGone(AFS);
  assert.equal(bare.code, 1);
  assert.match(bare.stderr, /failed resolving cwd/);
  const wrapped = await inGone("sh", new URL("../../scripts/afs", import.meta.url).pathname);
  assert.deepEqual([wrapped.code, wrapped.stdout], [0, ""]);
});

Deno.test("without a registry nothing is there, and nothing is made to say so", async () => {
  await using afs = await makeCli();
  assert.equal((await afs.ok(["list-repos"])).stdout, "");
  assert.equal((await afs.ok(["status"])).stdout, "");
  assert.deepEqual(await afs.json(["list-repos"]), { version: 1, repos: [] });
  assert.deepEqual(await afs.json(["status"]), { version: 1, repos: [] });
  for (const verb of ["status", "unmount", "remove-repo", "fetch"]) {
    await afs.fails([verb, "--name", "nope"], 1, /"nope"/);
    await afs.fails([verb, "./nope"], 1, /nope/);
  }
  await assert.rejects(Deno.stat(afs.stateRoot), Deno.errors.NotFound);
});

cliTest("remotes that cannot be mounted: one line, an own exit code, nothing left", async (afs) => {
  await makeRepo(afs.at("srv", "good.git"));
  await makeEmptyRepo(afs.at("srv", "empty.git"));
  await Deno.mkdir(afs.at("srv", "notgit"));
  await Deno.writeTextFile(afs.at("srv", "notgit", "x"), "x");
  await using open = startGitServer({ root: afs.at("srv") });
  const login = { user: "someone", password: "right-one" };
  await using closed = startGitServer({ root: afs.at("srv"), login });
  const wrong = closed.url("good", { user: "someone", password: "wrong-one" });
  const gone = startGitServer({ root: afs.at("srv") });
  const goneUrl = gone.url("good");
  await gone.close();
  const cases: [string, string[], number, RegExp][] = [
    ["missing on a server", [open.url("nope")], 1, /no git repository there/],
    ["missing on disk", [afs.at("nope")], 1, /no such directory/],
    ["not git", [afs.at("srv", "notgit")], 1, /no git repository|not git/],
    ["needs a login", [closed.url("good")], 3, /login/],
    ["wrong login", [wrong], 3, /login/],
    ["nobody listens", [goneUrl], 4, /cannot be reached/],
    ["no such branch", [open.url("good"), "--branch", "nope"], 1, /nope/],
    ["empty", [open.url("empty")], 1, /empty|no commit/],
    ["bad branch", [open.url("good"), "--branch", "a..b"], 129, /a\.\.b/],
    ["bad depth", [open.url("good"), "--depth", "2147483647"], 129, /depth/],
  ];
  for (const [what, [url = "", ...rest], code, pattern] of cases) {
    const line = await afs.fails(["mount", url, afs.at("m"), ...rest], code, pattern);
    assert.doesNotMatch(line, /wrong-one/, what);
    await assert.rejects(Deno.stat(afs.at("m")), Deno.errors.NotFound, what);
    await afs.assertNothingLeft();
  }
});

cliTest("names and mount points that cannot be used", async (afs) => {
  const remote = afs.at("good.git");
  await makeRepo(remote);
  for (const name of ["a/b", "..", ".", "", "a\nb", "-x", " x", "x".repeat(256)]) {
    await afs.fails(["mount", remote, afs.at("m"), `--name=${name}`], 129, /name/);
    await afs.fails(
      ["add-repo", `--name=${name}`, "--remote", remote, "--mount-root", afs.at("root")],
      129,
      /name/,
    );
  }
  await Deno.writeTextFile(afs.at("file"), "x");
  await Deno.mkdir(afs.at("full", "x", "y"), { recursive: true });
  const roots: [string, RegExp][] = [
    ["relative", /relative/],
    [afs.at("file"), /not a directory/],
    ["/proc/nowhere", /./],
    [afs.at("full"), /not empty/],
  ];
  for (const [root, pattern] of roots) {
    const args = ["add-repo", "--name", "x", "--remote", remote, "--mount-root", root];
    await afs.fails(args, 129, pattern);
  }
  await afs.fails(["mount", remote, afs.at("full")], 129, /not empty/);
  await afs.fails(["mount", remote, afs.at("file")], 129, /not a directory/);
  await afs.fails(["mount", remote, "/"], 129, /root directory/);
  await afs.fails(["mount", remote, `${afs.stateRoot}/m`], 129, /lies in the state root/);
  const args = ["add-repo", "--name", "state", "--remote", remote, "--mount-root"];
  await afs.fails([...args, afs.stateRoot], 129, /lies in the state root/);
  await afs.fails([...args, afs.dir.path], 129, /lies in the state root/);
  await afs.fails(["mount", remote, afs.dir.path], 129, /holds the state root/);
  await afs.assertNothingLeft();
});

cliTest("machines that cannot mount: no device, no right, no git, an old git", async (afs) => {
  const remote = afs.at("good.git");
  await makeRepo(remote);
  const mount = ["mount", remote, afs.at("m")];
  const inNamespace = 'mount -t tmpfs none /dev && mknod /dev/null c 1 3 && exec "$@"';
  const noDevice = await run("unshare", ["-m", "sh", "-c", inNamespace, "sh", AFS, ...mount], {
    env: afs.env,
    okCodes: "any",
  });
  assert.equal(noDevice.code, 128, noDevice.stderr);
  assert.match(noDevice.stderr, /^afs: Cannot mount: .*git clone --depth 1 file:.*\n$/);
  const noRight = await run("setpriv", [
    "--bounding-set=-sys_admin",
    "--inh-caps=-sys_admin",
    AFS,
    ...mount,
  ], { env: afs.env, okCodes: "any" });
  assert.equal(noRight.code, 128, noRight.stderr);
  assert.match(noRight.stderr, /^afs: Cannot mount: .*no right.*\n$/);
  await Deno.mkdir(afs.at("bin"));
  const sh = (await run("sh", ["-c", "command -v sh"])).stdout.trim();
  await Deno.symlink(sh, afs.at("bin", "sh"));
  await afs.fails(mount, 128, /git.*not in PATH/, { env: { PATH: afs.at("bin") } });
  await Deno.writeTextFile(afs.at("bin", "git"), "#!/bin/sh\necho git version 2.20.1\n");
  await Deno.chmod(afs.at("bin", "git"), 0o755);
  await afs.fails(mount, 128, /2\.20\.1.*too old/, { env: { PATH: afs.at("bin") } });
  await afs.assertNothingLeft();
});

cliTest("a state root too deep for a socket is refused", async (afs) => {
  await makeRepo(afs.at("good.git"));
  const deep = afs.at("x".repeat(60), "y".repeat(60));
  await afs.fails(["mount", afs.at("good.git"), afs.at("m")], 128, /ARTIFACT_FS_ROOT/, {
    env: { ARTIFACT_FS_ROOT: deep },
  });
});
