import assert from "node:assert/strict";
import { type GitDaemon, startGitDaemon } from "../../tests/support/git_daemon.ts";
import { ObjectWriter, Random, TreeBuilder } from "../../tests/support/git_objects.ts";
import { git, run, sleep, tempDir, waitFor, withTempDir } from "../../tests/support/run.ts";
import { type Clock, systemClock } from "../clock.ts";
import { Failure } from "../failure.ts";
import { gitFailure } from "./errors.ts";
import { oid } from "./oid.ts";
import { GitError } from "./process.ts";
import { readRefs } from "./refs.ts";
import { runTransfer } from "./transfer.ts";

/** Each look for progress comes a millisecond after the one before. */
const HURRIED: Clock = { now: () => 0, sleep: (_, signal) => systemClock.sleep(1, signal) };

const BLOBS = 20;
const BLOB_BYTES = 64 * 1024;

/** A git:// server with more than a megabyte that does not compress. */
async function served(body: (daemon: GitDaemon, dir: string) => Promise<void>): Promise<void> {
  await using dir = await tempDir();
  const remote = dir.at("remote.git");
  await git(["init", "-q", "--bare", "-b", "main", remote]);
  const writer = new ObjectWriter("sha1");
  const random = new Random(3);
  const builder = new TreeBuilder();
  for (let i = 0; i < BLOBS; i++) {
    const blob = oid(writer.blob(random.bytes(BLOB_BYTES)));
    builder.put(`file${i}`, "100644", blob);
  }
  const commit = oid(writer.commit(builder.write(writer), [], 1, "first"));
  await writer.flush(remote);
  await git(["-C", remote, "update-ref", "refs/heads/main", commit]);
  await using daemon = startGitDaemon(dir.path);
  await body(daemon, dir.path);
}

function clone(daemon: GitDaemon, dir: string, clock: Clock) {
  const target = `${dir}/clone`;
  const remoteUrl = daemon.url("remote.git");
  return runTransfer(["clone", "--bare", "--progress", remoteUrl, target], {
    remoteUrl,
    packDir: `${target}/objects/pack`,
    clock,
  });
}

function isStall(error: unknown): true {
  assert.ok(error instanceof GitError, `${error}`);
  const failure = gitFailure("mount git://h/x", error);
  assert.equal(failure.kind, "network");
  assert.match(
    failure.message,
    /^Cannot mount git:.*nothing arrived for 30 s.*; check the network/,
  );
  return true;
}

Deno.test("a git:// server that says nothing is given up, as a network that failed", async () => {
  await served(async (daemon, dir) => {
    daemon.set({ silent: true });
    await assert.rejects(clone(daemon, dir, HURRIED), isStall);
    await assert.rejects(
      runTransfer(["ls-remote", daemon.url("remote.git")], {
        remoteUrl: daemon.url("remote.git"),
        clock: HURRIED,
      }),
      isStall,
    );
  });
});

Deno.test("a git:// server that falls silent in the middle of a pack is given up", async () => {
  await served(async (daemon, dir) => {
    daemon.set({ stallAfterBytes: 300_000 });
    await assert.rejects(clone(daemon, dir, HURRIED), isStall);
  });
});

Deno.test("an ssh that says nothing is given up, and ended", async () => {
  await withTempDir(async (dir) => {
    const ssh = dir.at("ssh");
    await Deno.writeTextFile(ssh, `#!/bin/sh\necho $$ > ${dir.at("pid")}\nexec sleep 600\n`);
    await Deno.chmod(ssh, 0o755);
    const clock: Clock = {
      now: () => 0,
      async sleep(_, signal) {
        // Not before ssh has started.
        while (await Deno.stat(dir.at("pid")).catch(() => null) === null) {
          await systemClock.sleep(5, signal);
        }
        await systemClock.sleep(1, signal);
      },
    };
    const env = { GIT_SSH_COMMAND: ssh };
    const remoteUrl = "ssh://h/x";
    const asking = runTransfer(["ls-remote", remoteUrl], { remoteUrl, clock, env });
    await assert.rejects(asking, isStall);
    const pid = (await Deno.readTextFile(dir.at("pid"))).trim();
    await waitFor(async () => {
      const { stdout } = await run("ps", ["-o", "stat=", "-p", pid], { okCodes: "any" });
      return stdout.trim() === "" || stdout.startsWith("Z");
    }, "end of ssh");
  });
});

Deno.test("a transfer that moves is not cut, however long it takes", async () => {
  await served(async (daemon, dir) => {
    // A second passes with every few kilobytes: minutes in all.
    let seconds = 0;
    let piece = Promise.withResolvers<void>();
    daemon.set({
      pieceBytes: 8 * 1024,
      async beforePiece() {
        await sleep(1);
        seconds++;
        piece.resolve();
        piece = Promise.withResolvers();
      },
    });
    const clock: Clock = {
      now: () => 0,
      async sleep(_, signal) {
        const aborted = Promise.withResolvers<never>();
        const onAbort = () => aborted.reject(signal?.reason);
        signal?.addEventListener("abort", onAbort, { once: true });
        await Promise.race([piece.promise, aborted.promise]);
      },
    };
    let progress = 0;
    const target = `${dir}/clone`;
    await runTransfer(["clone", "--bare", "--quiet", daemon.url("remote.git"), target], {
      remoteUrl: daemon.url("remote.git"),
      packDir: `${target}/objects/pack`,
      clock,
      onProgress: () => progress++,
    });
    assert.ok(seconds > 100, `${seconds} s`);
    assert.ok(progress > 10, `${progress}`);
    await git(["-C", target, "fsck"]);
  });
});

Deno.test("an abort is no stall", async () => {
  await served(async (daemon, dir) => {
    daemon.set({ silent: true });
    const controller = new AbortController();
    const clone = runTransfer(["clone", "--bare", daemon.url("remote.git"), `${dir}/clone`], {
      remoteUrl: daemon.url("remote.git"),
      signal: controller.signal,
    });
    controller.abort(new Error("not any more"));
    await assert.rejects(clone, /not any more/);
  });
});

Deno.test("what git does when all is here has no limit", async () => {
  await withTempDir(async (dir) => {
    // A git that has received everything and is then silent for longer than a transfer may be.
    await Deno.mkdir(dir.at("bin"));
    const said = "Receiving objects: 100% (9/9), 1.00 KiB, done.";
    const script =
      `#!/bin/sh\necho "${said}" >&2\nwhile [ ! -e ${dir.at("go")} ]; do sleep 0.01; ` +
      "done\n";
    await Deno.writeTextFile(dir.at("bin", "upload"), script);
    await Deno.chmod(dir.at("bin", "upload"), 0o755);
    let looks = 0;
    const clock: Clock = {
      now: () => 0,
      async sleep(_, signal) {
        if (++looks === 100) await Deno.writeTextFile(dir.at("go"), "");
        await systemClock.sleep(5, signal);
      },
    };
    const args = ["ls-remote", `--upload-pack=${dir.at("bin", "upload")}`, dir.path];
    await assert.rejects(runTransfer(args, { remoteUrl: `file://${dir.path}`, clock }), (error) => {
      assert.ok(error instanceof GitError);
      return !/nothing arrived/.test(error.stderr);
    });
    assert.ok(looks >= 100, `${looks}`);
  });
});

Deno.test("refs without an end are not read: from a remote, and from a git directory", async () => {
  await using dir = await tempDir();
  const path = Deno.env.get("PATH") ?? "";
  const line = `${"1".repeat(40)} refs/heads/x`;
  await Deno.writeTextFile(dir.at("git"), `#!/bin/sh\nexec yes '${line}'\n`, { mode: 0o755 });
  Deno.env.set("PATH", `${dir.path}:${path}`);
  try {
    const tooMuch = (error: unknown) =>
      error instanceof Failure && /it is too much/.test(error.message);
    await assert.rejects(runTransfer(["ls-remote", "origin"], { remoteUrl: "file:///x" }), tooMuch);
    await assert.rejects(readRefs({ gitDir: dir.path }, ["refs"]), tooMuch);
  } finally {
    Deno.env.set("PATH", path);
  }
});
