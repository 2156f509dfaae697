import assert from "node:assert/strict";
import { run, tempDir, waitFor } from "../../tests/support/run.ts";
import { closeFd, preadFull } from "./fd.ts";
import { escapeOption } from "./fusermount.ts";
import {
  findProgram,
  HELPER_SOCKET,
  type HelperOptions,
  type HelperResult,
  runHelper,
  runHelperAside,
} from "./helper.ts";

const GUARD_MS = 60_000;

/** Both ways to wait. */
const WAYS: readonly [string, (options: HelperOptions) => HelperResult | Promise<HelperResult>][] =
  [["waiting", runHelper], ["aside", runHelperAside]];

const shell = (script: string, timeoutMs = GUARD_MS): HelperOptions => ({
  path: "/bin/sh",
  args: ["-c", script],
  timeoutMs,
});

for (const [way, runWay] of WAYS) {
  Deno.test(`${way}: what it prints on either output, and its status`, async () => {
    const result = await runWay(shell("echo one; echo two >&2; exit 3"));
    assert.deepEqual(result, { exitCode: 3, said: "one\ntwo", fd: null });
    assert.deepEqual(await runWay(shell("kill -15 $$")), { exitCode: 143, said: "", fd: null });
  });

  Deno.test(`${way}: one that closes its outputs is waited for`, async () => {
    const result = await runWay(shell("exec >&- 2>&-; sleep 0.2; exit 7"));
    assert.equal(result.exitCode, 7);
  });

  Deno.test(`${way}: one that hangs is killed, with what it has started`, async () => {
    await using dir = await tempDir();
    const pids = dir.at("pids");
    const script = `echo begun; echo $$ >${pids}; sh -c 'echo $$ >>${pids}; exec sleep 1000'`;
    const result = await runWay(shell(script, 1_000));
    assert.deepEqual(result, { exitCode: null, said: "begun", fd: null });
    for (const pid of (await Deno.readTextFile(pids)).trim().split("\n")) {
      // It is a zombie for the time that its new parent takes.
      const script = 'sed -n "s/^State:[[:space:]]*//p" "/proc/$1/status" 2>/dev/null || :';
      await waitFor(async () => {
        const { stdout } = await run("sh", ["-c", script, "sh", pid]);
        return stdout === "" || stdout.startsWith("Z");
      }, `end of ${pid}`);
    }
  });

  Deno.test(`${way}: one that hangs with its outputs closed is killed too`, async () => {
    const { exitCode } = await runWay(shell("exec >&- 2>&-; exec sleep 1000", 500));
    assert.equal(exitCode, null);
  });

  Deno.test(`${way}: more than is kept does not block it`, async () => {
    const script =
      "i=0; while [ $i -lt 5000 ]; do echo 0123456789012345678901234567890123456789; " +
      "i=$((i+1)); done";
    const { exitCode, said } = await runWay(shell(script));
    assert.equal(exitCode, 0);
    assert.equal(said.length, 4096);
  });

  Deno.test(`${way}: a program that is not there`, async () => {
    const missing = { path: "/no/such/program", args: [], timeoutMs: GUARD_MS };
    await assert.rejects(async () => await runWay(missing), /ENOENT/);
  });
}

Deno.test("its environment is PATH and what it is given; its arguments are exact", () => {
  const print = 'env | grep -v -e ^_= -e ^PWD= -e ^SHLVL= | sort; printf "<%s>" "$0" "$@"';
  const args = ["-c", print, "a b", "", "ü\n,\\"];
  const env = { _FUSE_COMMFD: "2", A: "x=y" };
  const { said } = runHelper({ path: "/bin/sh", args, env, timeoutMs: GUARD_MS });
  const path = Deno.env.get("PATH");
  assert.equal(said, `A=x=y\nPATH=${path}\n_FUSE_COMMFD=2\n<a b><><ü\n,\\>`);
});

Deno.test("it has one end of the socket, as two numbers, and a session of its own", () => {
  const script = "ls -l /proc/$$/fd | sed -n 's/.* \\([0-9]*\\) -> socket:.*/\\1/p'; " +
    "cut -d ' ' -f 6 /proc/$$/stat; echo $$; readlink /proc/$$/fd/0";
  const [one, two, session, pid, input, ...more] = runHelper(shell(script)).said.split("\n");
  assert.deepEqual([one, two, more], ["1", String(HELPER_SOCKET), []]);
  assert.equal(session, pid);
  assert.equal(input, "/dev/null");
});

Deno.test("what it sends is received whenever it is read; the first descriptor is kept", async () => {
  const python = findProgram("python3");
  if (python === null) return console.log("      (no python3 here to send descriptors)");
  await using dir = await tempDir();
  await Deno.writeTextFile(dir.at("a"), "first");
  const script = `
import os, socket, sys
s = socket.socket(fileno=os.dup(${HELPER_SOCKET}))
fds = [os.open(sys.argv[1], os.O_RDONLY) for _ in range(3)]
for message in (b"before", b"after"):
    os.write(${HELPER_SOCKET}, message)
    socket.send_fds(s, [b"\\0"], fds[:2])
    fds = fds[2:]
open(sys.argv[2], "w")
`;
  const openCount = async () => {
    // Others of this process come and go meanwhile, which ls says with its exit code.
    const { stdout } = await run("ls", ["-l", `/proc/${Deno.pid}/fd`], { okCodes: "any" });
    return stdout.split("\n").filter((line) => line.endsWith(` ${dir.at("a")}`)).length;
  };
  for (const isRead of ["as it comes", "at the end"]) {
    const done = dir.at(isRead);
    const args = ["-c", script, dir.at("a"), done];
    const result = runHelperAside({ path: python, args, timeoutMs: GUARD_MS });
    // This thread has a look now, and the next when it lets go.
    while (isRead === "at the end" && !existsSync(done)) pause();
    const { exitCode, said, fd } = await result;
    assert.deepEqual([exitCode, said], [0, "beforeafter"], isRead);
    assert.ok(fd !== null);
    const into = new Uint8Array(20);
    assert.equal(new TextDecoder().decode(into.subarray(0, preadFull(fd, into, 0))), "first");
    assert.equal(await openCount(), 1);
    closeFd(fd);
  }
});

function existsSync(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

/** Some milliseconds in which this thread does nothing. */
function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
}

Deno.test("a program is found on PATH, where it may be run", () => {
  assert.match(findProgram("sh") ?? "", /^\/.*\/sh$/);
  assert.equal(findProgram("no-such-program"), null);
});

Deno.test("an option's commas and backslashes are quoted", () => {
  assert.equal(escapeOption("a,b\\c"), "a\\,b\\\\c");
});
