import assert from "node:assert/strict";
import { mountsBelow, run, RunError, sleep, tempDir, waitFor, withTempDir } from "./run.ts";

Deno.test("run returns output, exit code and takes input", async () => {
  const result = await run("sh", ["-c", "cat; echo err >&2; exit 3"], {
    stdin: "in",
    okCodes: [3],
  });
  assert.equal(result.code, 3);
  assert.equal(result.stdout, "in");
  assert.equal(result.stderr, "err\n");
});

Deno.test("run throws on an unexpected exit code and names the output", async () => {
  await assert.rejects(run("sh", ["-c", "echo why >&2; exit 4"]), (error) => {
    assert.ok(error instanceof RunError);
    assert.equal(error.result.code, 4);
    assert.equal(error.timedOut, false);
    assert.match(error.message, /why/);
    return true;
  });
});

Deno.test("run ignores that a command does not read its input", async () => {
  const result = await run("true", [], { stdin: new Uint8Array(4 << 20) });
  assert.equal(result.code, 0);
});

Deno.test("run kills a command and its children when the guard ends", async () => {
  const start = performance.now();
  await assert.rejects(
    run("sh", ["-c", "echo $$; sleep 60 & sleep 60"], { timeoutMs: 200 }),
    (error) => error instanceof RunError && error.timedOut && /^\d+\n$/.test(error.result.stdout),
  );
  assert.ok(performance.now() - start < 8000);
});

Deno.test("tempDir is gone after a failure, with odd names and modes in it", async () => {
  let path = "";
  await assert.rejects(
    withTempDir(async (dir) => {
      path = dir.path;
      await run("sh", ["-c", "mkdir -p a/b; touch 'a/b/x y' $(printf 'a/\\377'); chmod 0 a/b"], {
        cwd: dir.path,
      });
      throw new Error("on purpose");
    }),
    /on purpose/,
  );
  await assert.rejects(Deno.lstat(path), Deno.errors.NotFound);
});

Deno.test("tempDir unmounts what is below it", async (t) => {
  const dir = await tempDir();
  await Deno.mkdir(dir.at("m p"));
  const mounted = await run("mount", ["-t", "tmpfs", "none", dir.at("m p")], { okCodes: "any" });
  await t.step({
    name: "with a tmpfs",
    ignore: mounted.code !== 0, // needs the right to mount
    fn: async () => {
      assert.deepEqual(await mountsBelow(dir.path), [dir.at("m p")]);
      await dir.remove();
      assert.deepEqual(await mountsBelow(dir.path), []);
    },
  });
  await dir.remove();
  await assert.rejects(Deno.lstat(dir.path), Deno.errors.NotFound);
});

Deno.test("waitFor waits, returns the value, and says what did not come", async () => {
  let calls = 0;
  assert.equal(await waitFor(() => ++calls === 3 ? "yes" : "", "third call"), "yes");
  await assert.rejects(
    waitFor(() => false, "miracle", { timeoutMs: 30 }),
    /No miracle after 30 ms/,
  );
  await assert.rejects(
    waitFor(() => Promise.reject(new Error("cause")), "miracle", { timeoutMs: 30 }),
    (error) => error instanceof Error && (error.cause as Error).message === "cause",
  );
  // A condition that itself hangs does not hang the test.
  await assert.rejects(waitFor(() => new Promise<boolean>(() => {}), "end", { timeoutMs: 30 }));
  await sleep(1);
});
