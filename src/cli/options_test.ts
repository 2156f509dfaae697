import assert from "node:assert/strict";
import { CommanderError } from "commander";
import { EXIT_CODES, Failure, type FailureKind } from "../failure.ts";
import { lastError } from "./daemon_process.ts";
import { hostPath, remoteForDaemon } from "./host_paths.ts";
import { makeProgram, report } from "./main.ts";
import { ownerFrom, requiredSelector, selectorFrom, wholeNumber } from "./options.ts";
import { Interrupted } from "./session.ts";

function isUsage(error: unknown): boolean {
  return error instanceof Failure && error.kind === "usage";
}

Deno.test("whole numbers only", () => {
  const parse = wholeNumber(1);
  assert.equal(parse("1"), 1);
  assert.equal(parse("007"), 7);
  for (const text of ["0", "-1", "1.5", "1e3", "", " 1", "4294967295", "x"]) {
    assert.throws(() => parse(text), text);
  }
});

Deno.test("one repository is named in one way", () => {
  assert.deepEqual(selectorFrom("/a/../b/", {}), { by: "dir", dir: "/b" });
  assert.deepEqual(selectorFrom(undefined, { name: "x" }), { by: "name", name: "x" });
  assert.equal(selectorFrom(undefined, {}), null);
  assert.throws(() => selectorFrom("a", { name: "b" }), isUsage);
  assert.throws(() => requiredSelector(undefined, {}), isUsage);
});

Deno.test("an owner is two numbers", () => {
  assert.deepEqual(ownerFrom({ uid: 1, gid: 2 }), { uid: 1, gid: 2 });
  assert.throws(() => ownerFrom({ uid: 1 }), isUsage);
  assert.throws(() => ownerFrom({ gid: 1 }), isUsage);
});

Deno.test("local paths are made absolute for the daemon, URLs are kept", () => {
  const cwd = Deno.cwd();
  assert.equal(remoteForDaemon("../x.git"), `${cwd.replace(/\/[^/]*$/, "")}/x.git`);
  assert.equal(remoteForDaemon("x/y:z"), `${cwd}/x/y:z`);
  for (const url of ["https://u:p@host/x", "git@host:x.git", "ssh://host/x", "ext::x", "/a/b"]) {
    assert.equal(remoteForDaemon(url), url);
  }
});

Deno.test("links are followed, what does not exist is kept", async () => {
  const dir = await Deno.realPath(await Deno.makeTempDir());
  try {
    await Deno.mkdir(`${dir}/real`);
    await Deno.symlink("real", `${dir}/link`);
    assert.equal(hostPath(`${dir}/link/a/../b`), `${dir}/real/b`);
    assert.equal(hostPath(`${dir}/none//./x`), `${dir}/none/x`);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("every kind of failure has its exit code", () => {
  const codes = (Object.keys(EXIT_CODES) as FailureKind[])
    .map((kind) => report(new Failure(kind, "Cannot test: this is printed by a test")));
  assert.deepEqual(codes, [1, 3, 4, 5, 6, 128, 129]);
  assert.equal(report(new Error("Cannot test: this too")), 1);
  assert.equal(report(new Interrupted("Cannot test: this too")), 130);
  assert.equal(report(new CommanderError(1, "commander.unknownOption", "x")), 129);
  assert.equal(report(new CommanderError(0, "commander.helpDisplayed", "x")), 0);
});

Deno.test("a repository's verbs have help, and a hidden flag stays hidden", () => {
  const names = makeProgram().commands.map((command) => command.name());
  assert.deepEqual(names, [
    "mount",
    "unmount",
    "remount",
    "add-repo",
    "prepare",
    "remove-repo",
    "list-repos",
    "status",
    "switch",
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
  ]);
});

Deno.test("the last words of a daemon that died", () => {
  const line = '{"level":"error","msg":"Could not start","error":"Cannot x: y","kind":"busy"}';
  const failure = lastError(`{"msg":"Starting"}\n${line}\n`);
  assert.equal(failure?.message, "Cannot x: y");
  assert.equal(failure?.kind, "busy");
  assert.equal(
    lastError("error: no memory\n")?.message,
    "Cannot start the daemon: error: no memory",
  );
  assert.equal(lastError(""), null);
  assert.equal(lastError('{"msg":"Starting"}\n'), null);
});
