import assert from "node:assert/strict";
import { startGitServer } from "../../tests/support/git_server.ts";
import type { GitServer } from "../../tests/support/git_server_api.ts";
import { Failure } from "../failure.ts";
import { GitFetch } from "../git/fetch.ts";
import { readStoreConfig } from "../git/store.ts";
import { keepCredentials } from "./credentials.ts";
import { fetchHistory } from "./history.ts";
import { removeRepo } from "./remove.ts";
import { type Ground, listTree, onGround } from "./testing.ts";
import type { RepoRecord } from "./types.ts";

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

function given(url: string, tokenFile: string | null = null) {
  return { url, tokenFile };
}

/** Every transfer of a store: what is asked about its history, and contents. */
async function transfers(ground: Ground, record: RepoRecord): Promise<void> {
  assert.equal((await fetchHistory(record, ground.layout)).fetchResult, "ok");
  const { gitDir, stagingDir } = ground.layout.store(record.storeId);
  const source = new GitFetch({ storeGitDir: gitDir, stagingDir, objectFormat: "sha1" });
  assert.ok((await source.fetchCommit(record.baseCommitOid)).packBytes > 0);
}

function credentialsIn(ground: Ground, record: RepoRecord): Promise<readonly string[]> {
  const { gitDir } = ground.layout.store(record.storeId);
  return readStoreConfig(gitDir).then(({ credentials }) => credentials);
}

Deno.test("credentials: one of a store's mounts with good ones is enough", async () => {
  await onServer(async (ground, server) => {
    const next = { user: "other", password: "another-s3cr3t" };
    const one = await ground.add(server.url("x", LOGIN));
    server.set({ login: next });
    const two = await ground.add(server.url("x", next));
    const pathOf = ({ id }: RepoRecord) => ground.layout.repo(id).credentialsPath;
    assert.deepEqual(await credentialsIn(ground, one), [pathOf(two), pathOf(one)]);
    // The first one's are refused; then those that were given last.
    await transfers(ground, one);
    server.set({ login: LOGIN });
    await transfers(ground, two);
    // Whoever gives none has those of the store, whoever gives wrong ones is told.
    const three = await ground.add(server.url("x"));
    await transfers(ground, three);
    await assert.rejects(ground.add(server.url("x", next)), Failure);
    // None is good: one line that names no secret.
    server.set({ login: { user: "x", password: "y" } });
    const { failure } = await fetchHistory(one, ground.layout);
    assert.equal(failure?.kind, "authentication");
    assert.doesNotMatch(failure?.message ?? "", /s3cr3t/);

    await removeRepo(two, ground);
    assert.deepEqual(await credentialsIn(ground, one), [pathOf(one)]);
    server.set({ login: LOGIN });
    await transfers(ground, one);
  });
});

Deno.test("credentials: what was accepted is tried first the next time", async () => {
  await onServer(async (ground, server) => {
    const next = { user: "other", password: "another-s3cr3t" };
    const one = await ground.add(server.url("x", LOGIN));
    server.set({ login: next });
    await ground.add(server.url("x", next));
    server.set({ login: LOGIN });
    const { gitDir, stagingDir } = ground.layout.store(one.storeId);
    const source = new GitFetch({ storeGitDir: gitDir, stagingDir, objectFormat: "sha1" });
    const refusals = async () => {
      server.resetCounters();
      await source.fetchCommit(one.baseCommitOid);
      return server.counters().errors;
    };
    // One asks for the login, one refuses it.
    assert.ok(await refusals() > 1);
    assert.equal(await refusals(), 1);
  });
});

Deno.test("credentials: given later, where there were none, and others than before", async () => {
  await onServer(async (ground, server) => {
    server.set({ login: null });
    const owner = Deno.uid() === 0 ? { uid: 65534, gid: 65533 } : {};
    const record = await ground.add(server.url("x"), owner);
    const { credentialsPath, userGitDir } = ground.layout.repo(record.id);
    for (const login of [LOGIN, { user: "other", password: "another-s3cr3t" }]) {
      server.set({ login });
      assert.notEqual((await fetchHistory(record, ground.layout)).fetchResult, "ok");
      await keepCredentials(record, given(server.url("x", login)), ground.layout);
      await transfers(ground, record);
      const { mode, uid, gid } = await Deno.stat(credentialsPath);
      assert.equal((mode ?? 0) & 0o777, 0o600);
      assert.deepEqual([uid, gid], [record.uid, record.gid]);
      // As the user.
      const fetched = await new Deno.Command("git", {
        args: ["--git-dir", userGitDir, "fetch", "origin"],
        ...owner,
        env: { GIT_CONFIG_GLOBAL: "/dev/null", GIT_TERMINAL_PROMPT: "0", HOME: "/nonexistent" },
        cwd: "/",
      }).output();
      assert.ok(fetched.success, new TextDecoder().decode(fetched.stderr));
      const { uid: configOwner } = await Deno.stat(`${userGitDir}/config`);
      assert.equal(configOwner, record.uid);
      const holders = await filesWith(ground.layout.stateRoot, [login.password]);
      assert.deepEqual(holders, [`credentials/${record.id}`]);
    }
    // Without any, what is kept stays.
    await keepCredentials(record, given(server.url("x")), ground.layout);
    await transfers(ground, record);
  });
});
