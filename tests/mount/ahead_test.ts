/**
 * Requests to the remote that are not made: what lookahead brings of a commit that has come beneath
 * the work tree after the mount.
 */

import assert from "node:assert/strict";
import { git, tempDir } from "../support/run.ts";
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
