import assert from "node:assert/strict";
import { type GitServer, startGitServer } from "../../tests/support/git_server.ts";
import { Failure } from "../failure.ts";
import { fetchHistory } from "./history.ts";
import { removeRepo } from "./remove.ts";
import { type Ground, listTree, onGround } from "./testing.ts";

const LOGIN = { user: "us er", password: "s3cr3t-T0ken/%" };

async function onServer(fn: (ground: Ground, server: GitServer) => Promise<void>): Promise<void> {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    await Deno.mkdir(`${ground.dir}/srv`);
    await ground.git(ground.dir, "clone", "-q", "--bare", remote, `${ground.dir}/srv/x.git`);
    await using server = startGitServer({ root: `${ground.dir}/srv`, login: LOGIN });
    await fn(ground, server);
  });
}

/** Files below a folder that hold one of the texts. */
async function filesWith(root: string, texts: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const line of await listTree(root)) {
    const path = line.slice(line.indexOf(" ") + 1);
    if ((await Deno.lstat(`${root}/${path}`)).isDirectory) continue;
    const content = new TextDecoder("latin1").decode(await Deno.readFile(`${root}/${path}`));
    if (texts.some((text) => content.includes(text))) found.push(path);
  }
  return found;
}

Deno.test("credentials: every fetch has them, and one file holds them", async () => {
  await onServer(async (ground, server) => {
    const lines: string[] = [];
    const record = await ground.add(server.url("x", LOGIN), {}, {
      onProgress: (progress) => lines.push(JSON.stringify(progress)),
    });
    assert.equal(record.remote, server.url("x"));
    assert.equal((await fetchHistory(record, ground.layout)).fetchResult, "ok");
    const env = {
      GIT_DIR: ground.layout.repo(record.id).userGitDir,
      GIT_CONFIG_GLOBAL: "/dev/null",
      GIT_TERMINAL_PROMPT: "0",
    };
    const git = async (...args: string[]) => {
      const output = await new Deno.Command("git", { args, env }).output();
      assert.ok(output.success, new TextDecoder().decode(output.stderr));
      return new TextDecoder().decode(output.stdout);
    };
    // As the user: a lazy fetch and a fetch.
    assert.equal(await git("show", "HEAD~1:file"), "two\n");
    await git("fetch", "origin");
    assert.doesNotMatch(await git("remote", "-v"), /@/);
    const secrets = [LOGIN.password, encodeURIComponent(LOGIN.password), btoa(LOGIN.password)];
    const holders = await filesWith(ground.layout.stateRoot, [...secrets, "s3cr3t"]);
    assert.deepEqual(holders, [`credentials/${record.id}`]);
    const info = await Deno.stat(ground.layout.repo(record.id).credentialsPath);
    assert.equal((info.mode ?? 0) & 0o777, 0o600);
    assert.doesNotMatch(lines.join(), /s3cr3t/);
  });
});

Deno.test("credentials: wrong or none is a failure that names no secret and leaves nothing", async () => {
  await onServer(async (ground, server) => {
    const before = await listTree(ground.layout.stateRoot);
    const wrong = { user: "u", password: "wr0ng-s3cr3t" };
    for (const url of [server.url("x"), server.url("x", wrong)]) {
      await assert.rejects(ground.add(url), (error: unknown) => {
        assert.ok(error instanceof Failure);
        assert.equal(error.kind, "authentication", error.message);
        return !error.message.includes("s3cr3t");
      });
    }
    assert.deepEqual(await listTree(ground.layout.stateRoot), before);
    // A failure with wrong ones leaves the store's own in use.
    const record = await ground.add(server.url("x", LOGIN));
    await assert.rejects(ground.add(server.url("x", wrong)), Failure);
    assert.equal((await fetchHistory(record, ground.layout)).fetchResult, "ok");
  });
});

Deno.test("credentials: a store goes on with those of another mount", async () => {
  await onServer(async (ground, server) => {
    const one = await ground.add(server.url("x", LOGIN));
    const two = await ground.add(server.url("x", LOGIN));
    await removeRepo(two, ground);
    assert.equal((await fetchHistory(one, ground.layout)).fetchResult, "ok");
    const config = await Deno.readTextFile(`${ground.layout.store(one.storeId).gitDir}/config`);
    assert.match(config, new RegExp(`credentials/${one.id}`));
    assert.doesNotMatch(config, new RegExp(two.id));
  });
});
