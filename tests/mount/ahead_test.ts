/**
 * Requests to the remote that are not made: what lookahead brings of a commit that has come beneath
 * the work tree after the mount, and what the user's git has fetched already.
 */

import assert from "node:assert/strict";
import { git, tempDir, waitFor } from "../support/run.ts";
import { fixture, mountTest } from "./harness.ts";

const DIRECTORIES = 60;

const IDENTITY = ["-c", "user.name=A", "-c", "user.email=a@example.com"];

/** Two branches that have no blob in common: ignore files and others, in many directories. */
const twoBranches = fixture(async (path) => {
  await using dir = await tempDir();
  const work = dir.at("work");
  await git(["init", "--quiet", "--initial-branch=main", work]);
  for (const branch of ["main", "other"]) {
    if (branch !== "main") await git(["-C", work, "switch", "--quiet", "-c", branch]);
    for (let i = 0; i < DIRECTORIES; i++) {
      const below = `${work}/d${String(i).padStart(2, "0")}`;
      await Deno.mkdir(below, { recursive: true });
      await Deno.writeTextFile(`${below}/.gitignore`, `${branch}-${i}\n`);
      for (const name of ["a", "b", "c"]) {
        await Deno.writeTextFile(`${below}/${name}`, `${branch} ${i} ${name}\n`.repeat(20));
      }
    }
    await git(["-C", work, "add", "-A"]);
    await git([...IDENTITY, "-C", work, "commit", "--quiet", "-m", branch]);
  }
  await git(["-C", work, "switch", "--quiet", "main"]);
  await git(["clone", "--quiet", "--bare", work, path]);
  return path;
});

mountTest("lookahead: goes by the commit that is beneath, after a switch", async (lab) => {
  await lab.startDaemon();
  await lab.share(await twoBranches(), "r");
  const server = lab.serve();
  const mountPoint = await lab.mount(server.url("r"), "r", "--wait=history");
  const requests = async (script: string) => {
    server.resetCounters();
    await lab.sh(`cd "$1"; ${script}`, [mountPoint]);
    return server.counters().requests;
  };
  await requests("git status");
  await lab.afs(["switch", "origin/other"], { cwd: mountPoint });
  // Git reads the ignore file of each directory in which something is new.
  assert.equal(await requests("for d in d*; do : >$d/new; done; git status"), 1);
  assert.ok(await requests("cat d*/[abc]") <= 4);
});

/** What `cat` is to print of a branch. */
function wholeText(branch: string): string {
  const texts: string[] = [];
  for (let i = 0; i < DIRECTORIES; i++) {
    for (const name of ["a", "b", "c"]) texts.push(`${branch} ${i} ${name}\n`.repeat(20));
  }
  return texts.join("");
}

async function packsIn(dir: string): Promise<string[]> {
  const names = await Array.fromAsync(Deno.readDir(dir), ({ name }) => name);
  return names.filter((name) => name.endsWith(".pack")).map((name) => `${dir}/${name}`);
}

mountTest("what the user's git has fetched is not fetched again", async (lab, t) => {
  let daemon = await lab.startDaemon();
  await lab.share(await twoBranches(), "r");
  const server = lab.serve();
  const mountPoint = await lab.mount(server.url("r"), "r", "--wait=history");
  const sh = async (script: string) => {
    server.resetCounters();
    const { stdout } = await lab.sh(`cd "$1"; ${script}`, [mountPoint]);
    return { stdout, requests: server.counters().requests };
  };
  const [userGitDir = ""] = (await sh("git rev-parse --absolute-git-dir")).stdout.split("\n");
  const id = userGitDir.split("/").at(-1);
  const imported = async () => {
    const viewDir = `${lab.stateRoot}/repos/${id}/view`;
    const { stdout } = await git(["--git-dir", viewDir, "count-objects", "-v"]);
    return Number(/^in-pack: (\d+)$/m.exec(stdout)?.[1]);
  };
  const restart = async () => {
    await daemon.stop();
    daemon = await lab.startDaemon();
  };

  await t.step("read where git has put it, and imported", async () => {
    // Both sides of the comparison.
    assert.ok((await sh("git diff main origin/other | wc -l")).requests > 0);
    const all = await sh("ls -l d* >/dev/null; cat d*/[abc]");
    assert.deepEqual(all, { stdout: wholeText("main"), requests: 0 });
    assert.equal((await sh("git status --porcelain; git gc -q --prune=now")).stdout, "");
    await waitFor(async () => await imported() >= 3 * DIRECTORIES, "the import");
  });

  await t.step("there when the user's git has it no more", async () => {
    await restart();
    for (const path of await packsIn(`${userGitDir}/objects/pack`)) await Deno.remove(path);
    const all = await sh("cat d*/[abc]");
    assert.deepEqual(all, { stdout: wholeText("main"), requests: 0 });
  });

  await t.step("a switch by git, and its files", async () => {
    await sh("git switch -q --detach origin/other");
    assert.deepEqual(await sh("cat d*/[abc]"), { stdout: wholeText("other"), requests: 0 });
    assert.deepEqual(await sh("git status --porcelain"), { stdout: "", requests: 0 });
    await waitFor(async () => (await daemon.logged("Base follows HEAD")).length > 0, "the base");
    await restart();
    assert.deepEqual(await sh("cat d*/[abc]"), { stdout: wholeText("other"), requests: 0 });
  });
});

mountTest("what is damaged in the user's git directory is fetched", async (lab) => {
  await lab.startDaemon();
  await lab.share(await twoBranches(), "r");
  const server = lab.serve();
  const mountPoint = await lab.mount(server.url("r"), "r", "--wait=history");
  const sh = async (script: string) => {
    return (await lab.sh(`cd "$1"; ${script}`, [mountPoint])).stdout;
  };
  const userGitDir = (await sh("git rev-parse --absolute-git-dir")).trim();
  await sh("git diff main origin/other | wc -l");
  const packs = await packsIn(`${userGitDir}/objects/pack`);
  assert.ok(packs.length > 0);
  for (const path of packs) {
    const bytes = await Deno.readFile(path);
    // All but the header.
    await Deno.chmod(path, 0o644);
    await Deno.writeFile(path, bytes.map((byte, i) => i % 7 === 0 && i > 12 ? byte ^ 0x41 : byte));
  }
  server.resetCounters();
  assert.equal(await sh("cat d*/[abc]"), wholeText("main"));
  assert.ok(server.counters().requests > 0);
});
