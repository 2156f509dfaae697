import assert from "node:assert/strict";
import { git, gitBaseEnv, run, tempDir } from "../../tests/support/run.ts";
import { fsmonitorHook } from "./fsmonitor.ts";

const ROUNDS = 40;

/** Whether this git may be answered when it compares the work tree with a commit. */
async function isSound(): Promise<boolean> {
  const [, major, minor] = /(\d+)\.(\d+)/.exec((await git(["version"])).stdout) ?? [];
  return Number(major) > 2 || Number(minor) >= 43;
}

Deno.test("the hook: every git command is right, and is answered where that is so", async () => {
  await using dir = await tempDir("afs-hook-");
  const at = dir.at("a b");
  await Deno.mkdir(`${at}/diff`, { recursive: true });
  await Deno.mkdir(`${at}/monitor/fsmonitor`, { recursive: true });
  await Deno.writeTextFile(`${at}/monitor/fsmonitor/t-1`, "1\0");
  await Deno.writeTextFile(`${at}/monitor/fsmonitor/t-`, "1\0/\0");
  const ask = (...args: string[]) => git(["-C", at, ...args]);
  const prepare = async () => {
    await ask("status");
    await ask("status");
    assert.equal((await ask("ls-files", "-f")).stdout, "h diff/one\nh two\n");
  };
  for (const name of ["diff/one", "two"]) await Deno.writeTextFile(`${at}/${name}`, "text\n");
  await ask("init", "-q");
  await Deno.writeTextFile(`${at}/.git/info/exclude`, "monitor\n");
  await ask("add", ".");
  await ask("commit", "-qm", "first");
  // Files answer here, whoever asks.
  const hook = fsmonitorHook("monitor").replace("~$$", () => "");
  await ask("config", "core.fsmonitor", hook);
  await ask("config", "core.fsmonitorHookVersion", "2");
  // Of entries that are as old as the index git compares the content.
  await run("touch", ["-d", "2001-01-01", `${at}/diff/one`, `${at}/two`]);
  await ask("update-index", "--refresh");
  await prepare();

  const lazy = [
    ["status", "--porcelain"],
    ["diff"],
    ["diff", "--stat"],
    ["diff", "--", "two"],
    ["diff", "--cached", "HEAD"],
    ["commit", "-qm", "a diff of HEAD", "--allow-empty"],
    ["add", "diff"],
    ["-C", "diff", "status", "--short"],
  ];
  const looking = [
    ["diff", "HEAD"],
    ["diff", "--stat", "HEAD", "--", "two"],
    ["-C", "diff", "-c", "core.pager=cat", "diff", "HEAD"],
    ["diff-index", "HEAD"],
    ["update-index", "--refresh"],
  ];
  const answered = async (args: string[]) => {
    const { stdout, stderr } = await run("git", ["-C", at, ...args], {
      clearEnv: true,
      env: { ...gitBaseEnv(), GIT_TRACE_FSMONITOR: "1" },
    });
    assert.equal(stdout, "", args.join(" "));
    return /returned success/.test(stderr) && !/returned fail/.test(stderr);
  };
  for (const args of lazy) assert.equal(await answered(args), true, args.join(" "));
  const sound = await isSound();
  for (const args of looking) {
    await prepare();
    assert.equal(await answered(args), sound, args.join(" "));
    for (let round = 0; round < ROUNDS; round++) await answered(args);
  }
});
