/** The README's quick start, word for word, against a local mirror of the repository it names. */

import assert from "node:assert/strict";
import { git, mountInfo, run } from "../support/run.ts";
import { mountTest } from "./harness.ts";

const ROOT = decodeURIComponent(new URL("../..", import.meta.url).pathname);
const BLOCK = /<!-- quick start[^>]*-->\s*```sh\n([\s\S]*?)```/;
/** What the quick start makes, where it says. */
const MADE = ["/tmp/artifact-fs-test", "/tmp/workers-sdk"];

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

mountTest("the README's quick start runs word for word", async (lab) => {
  for (const path of MADE) {
    assert.equal(await exists(path), false, `${path} exists: somebody's quick start; remove it`);
  }
  const text = await Deno.readTextFile(`${ROOT}README.md`);
  const commands = BLOCK.exec(text)?.[1];
  assert.ok(commands, "the README has no quick start");
  const remote = /--remote (\S+)/.exec(commands)?.[1];
  assert.ok(remote);

  const work = lab.dir.at("mirror");
  await git(["init", "--quiet", "--initial-branch=main", work]);
  await Deno.writeTextFile(`${work}/README.md`, "a mirror's readme\n");
  await git(["-C", work, "add", "."]);
  await git(["-C", work, "commit", "--quiet", "--message=mirrored commit"]);
  await git(["-C", work, "config", "uploadpack.allowFilter", "true"]);
  await git(["-C", work, "config", "uploadpack.allowAnySHA1InWant", "true"]);
  const config = lab.dir.at("gitconfig");
  await Deno.writeTextFile(config, `[url "file://${work}"]\n\tinsteadOf = ${remote}\n`);

  try {
    const script = `set -e\n${commands}\nwait $DAEMON_PID\n`;
    const { stdout } = await run("sh", ["-c", script], {
      cwd: ROOT,
      env: { GIT_CONFIG_GLOBAL: config, GIT_CONFIG_NOSYSTEM: "1" },
      timeoutMs: 300_000,
    });
    assert.match(stdout, /^README\.md$/m);
    assert.match(stdout, /^a mirror's readme$/m);
    assert.match(stdout, /mirrored commit/);
    assert.match(stdout, /repo=workers-sdk state=mounted .*hydrated_blobs=1 /);
    const left = (await mountInfo()).filter(({ mountPoint }) => MADE.includes(mountPoint));
    assert.deepEqual(left, [], "the daemon has left its mount");
  } finally {
    await run("sh", ["-c", "umount -l /tmp/workers-sdk"], { okCodes: "any" });
    for (const path of MADE) await Deno.remove(path, { recursive: true }).catch(() => {});
  }
});
