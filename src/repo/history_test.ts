import assert from "node:assert/strict";
import { aheadBehind } from "../git/user_git_dir.ts";
import { fetchHistory } from "./history.ts";
import { userGitDirOf } from "./owner.ts";
import { removeOrphans, removeRepo, whatExistsOnlyHere } from "./remove.ts";
import { listTree, onGround } from "./testing.ts";

Deno.test("history: log is complete, branches and tags are there, fsck is clean", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const record = await ground.add(remote, { branch: "feature/x" });
    const result = await fetchHistory(record, ground.layout);
    assert.deepEqual([result.history, result.fetchResult], ["full", "ok"]);
    const tree = await ground.workTreeOf(record);
    assert.equal(await ground.git(tree, "log", "--format=%s"), "two\none\n");
    assert.equal(
      await ground.git(tree, "for-each-ref", "--format=%(refname)"),
      [
        "refs/heads/feature/x",
        "refs/remotes/origin/HEAD",
        "refs/remotes/origin/feature/x",
        "refs/remotes/origin/main",
        "refs/tags/light",
        "refs/tags/v1",
        "",
      ].join("\n"),
    );
    assert.equal(await ground.git(tree, "describe", "--tags", "origin/main~2"), "v1\n");
    assert.equal(
      (await ground.git(tree, "symbolic-ref", "refs/remotes/origin/HEAD")).trim(),
      "refs/remotes/origin/main",
    );
    await ground.git(tree, "fsck", "--full");
    await ground.git(ground.layout.store(record.storeId).gitDir, "fsck", "--full");
    assert.equal(await ground.git(tree, "status", "--porcelain"), "");
    // A second mount on the store has it all at once.
    const second = await ground.add(remote);
    assert.equal(second.history, "full");
    const secondTree = await ground.workTreeOf(second);
    assert.equal(await ground.git(secondTree, "log", "--format=%s"), "three\ntwo\none\n");
    assert.match(await ground.git(secondTree, "branch", "-r"), /origin\/feature\/x/);
  });
});

Deno.test("history: a later fetch brings what is new, moves no local ref, keeps the user's own", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const record = await ground.add(remote);
    await fetchHistory(record, ground.layout);
    const tree = await ground.workTreeOf(record);
    await ground.git(tree, "tag", "mine");
    await ground.git(tree, "commit", "-q", "--allow-empty", "-m", "local");
    await Deno.writeTextFile(`${remote}/file`, "four\n");
    await ground.git(remote, "commit", "-qam", "four");
    // A branch that becomes a folder of branches.
    await ground.git(remote, "branch", "-D", "feature/x");
    await ground.git(remote, "branch", "feature/x/y");
    await ground.git(remote, "tag", "mine", "v1");
    const result = await fetchHistory(record, ground.layout);
    assert.equal(result.fetchResult, "ok");
    assert.equal(await ground.git(tree, "log", "--format=%s", "origin/main", "-1"), "four\n");
    assert.equal(await ground.git(tree, "log", "--format=%s", "-1"), "local\n");
    assert.match(await ground.git(tree, "branch", "-r"), /origin\/feature\/x\/y/);
    assert.equal(await ground.git(tree, "log", "--format=%s", "-1", "mine"), "three\n");
    assert.deepEqual(await aheadBehind(userGitDirOf(record, ground.layout)), {
      ahead: 1,
      behind: 1,
    });
  });
});

Deno.test("history: only our lines leave the user's shallow file", async () => {
  await onGround(async (ground) => {
    const record = await ground.add(await ground.makeRemote());
    const { userGitDir } = ground.layout.repo(record.id);
    const other = "1".repeat(40);
    await Deno.writeTextFile(`${userGitDir}/shallow`, `${other}\n`, { append: true });
    await fetchHistory(record, ground.layout);
    assert.equal(await Deno.readTextFile(`${userGitDir}/shallow`), `${other}\n`);
  });
});

Deno.test("history: with a depth nothing is fetched", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const record = await ground.add(remote, { depth: 1 });
    await Deno.rename(remote, `${remote}.gone`);
    assert.equal((await fetchHistory(record, ground.layout)).history, "shallow");
  });
});

Deno.test("history: a failure is a result, and what a killed fetch left is no obstacle", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const record = await ground.add(remote);
    const { gitDir } = ground.layout.store(record.storeId);
    await Deno.rename(remote, `${remote}.gone`);
    const failed = await fetchHistory(record, ground.layout);
    assert.equal(failed.history, "fetching");
    assert.match(failed.fetchResult, /^Cannot fetch the history of file:/);
    await Deno.rename(`${remote}.gone`, remote);
    await Deno.writeTextFile(`${gitDir}/shallow.lock`, "");
    await Deno.writeTextFile(`${gitDir}/objects/pack/tmp_pack_x`, "half");
    assert.equal((await fetchHistory(record, ground.layout)).fetchResult, "ok");
    const odd = (await listTree(gitDir)).filter((line) => /tmp_|lock/.test(line));
    assert.deepEqual(odd, []);
  });
});

Deno.test("history: servers that know neither filters nor shallow clones", async () => {
  await onGround(async (ground) => {
    const plain = await ground.makeRemote({ filter: false });
    const dumb = `${ground.dir}/dumb`;
    await ground.git(ground.dir, "clone", "-q", "--mirror", plain, dumb);
    await ground.git(dumb, "update-server-info");
    const server = Deno.serve(
      { port: 0, hostname: "127.0.0.1", onListen() {} },
      async (request) => {
        const path = `${ground.dir}${new URL(request.url).pathname}`;
        const bytes = await Deno.readFile(path).catch(() => null);
        return new Response(bytes, { status: bytes === null ? 404 : 200 });
      },
    );
    const url = `http://127.0.0.1:${server.addr.port}/dumb`;
    for (const remote of [url, plain]) {
      const record = await ground.add(remote);
      assert.equal((await fetchHistory(record, ground.layout)).fetchResult, "ok");
      const { gitDir } = ground.layout.store(record.storeId);
      assert.doesNotMatch(await Deno.readTextFile(`${gitDir}/config`), /promisor/i);
      const { userGitDir } = ground.layout.repo(record.id);
      assert.equal(
        await ground.git("/", `--git-dir=${userGitDir}`, "log", "--format=%s"),
        "three\ntwo\none\n",
      );
      await ground.git("/", `--git-dir=${userGitDir}`, "fsck", "--full");
    }
    await server.shutdown();
  });
});

Deno.test("history: an acquisition while the history comes in", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const first = await ground.add(remote, { branch: "v1" });
    const [result, second] = await Promise.all([
      fetchHistory(first, ground.layout, { repos: () => ground.registry.byStore(first.storeId) }),
      ground.add(remote),
    ]);
    assert.equal(result.fetchResult, "ok");
    await fetchHistory(second, ground.layout);
    const tree = await ground.workTreeOf(second);
    assert.equal(await ground.git(tree, "log", "--format=%s"), "three\ntwo\none\n");
    await ground.git(tree, "fsck", "--full");
  });
});

Deno.test("history: an abort throws and leaves a state to go on from", async () => {
  await onGround(async (ground) => {
    const record = await ground.add(await ground.makeRemote());
    const abort = new AbortController();
    setTimeout(() => abort.abort(new Error("stop")), 5);
    await assert.rejects(
      fetchHistory(record, ground.layout, { signal: abort.signal }),
      /stop/,
    );
    assert.equal((await fetchHistory(record, ground.layout)).history, "full");
  });
});

Deno.test("remove: what exists only here", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const record = await ground.add(remote);
    const only = () => whatExistsOnlyHere(record, ground.layout);
    assert.deepEqual(await only(), []);
    await fetchHistory(record, ground.layout);
    assert.deepEqual(await only(), []);
    const tree = await ground.workTreeOf(record);
    await ground.git(tree, "commit", "-q", "--allow-empty", "-m", "a");
    await ground.git(tree, "commit", "-q", "--allow-empty", "-m", "b");
    await ground.git(tree, "tag", "mine", "HEAD~1");
    assert.deepEqual(await only(), [
      { where: "branch main", count: 2 },
      { where: "tag mine", count: 1 },
    ]);
    await ground.git(tree, "reset", "-q", "--hard", "HEAD~2");
    await ground.git(tree, "tag", "-d", "mine");
    await Deno.writeTextFile(`${tree}/file`, "stashed\n");
    await ground.git(tree, "stash");
    await Deno.writeTextFile(`${tree}/file`, "stashed too\n");
    await ground.git(tree, "stash");
    assert.deepEqual(await only(), [{ where: "stash", count: 2 }]);
    await ground.git(tree, "stash", "clear");
    await ground.git(tree, "checkout", "-q", "--detach");
    await ground.git(tree, "commit", "-q", "--allow-empty", "-m", "c");
    assert.deepEqual(await only(), [{ where: "HEAD", count: 1 }]);
    // Pushed: the remote has it.
    await ground.git(tree, "push", "-q", "origin", "HEAD:refs/heads/pushed");
    assert.deepEqual(await only(), []);
  });
});

Deno.test("remove: folders go with the row, the store with its last repository", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const one = await ground.add(remote);
    const two = await ground.add(remote);
    await removeRepo(one, ground);
    assert.deepEqual(ground.registry.all().map((row) => row.id), [two.id]);
    const tree = await ground.workTreeOf(two);
    assert.equal(await ground.git(tree, "status", "--porcelain"), "");
    await removeRepo(two, ground);
    const rest = (await listTree(ground.layout.stateRoot)).filter((line) =>
      /\/[0-9a-f]/.test(line)
    );
    assert.deepEqual(rest, []);
    // Again: nothing to do, no error.
    await removeRepo(two, ground);
  });
});

Deno.test("remove: orphans go, registered ones and acquisitions at work stay", async () => {
  await onGround(async (ground) => {
    const { layout, registry } = ground;
    const remote = await ground.makeRemote();
    const kept = await ground.add(remote);
    const lost = await ground.add(await ground.makeRemote());
    registry.remove(lost.id);
    await Deno.writeTextFile(layout.repo("0123456789abcdef").credentialsPath, "x");
    const working = ground.add(remote);
    const removed = await removeOrphans(layout, registry);
    const record = await working;
    assert.deepEqual(
      removed.toSorted(),
      [`repos/0123456789abcdef`, `repos/${lost.id}`, `stores/${lost.storeId}`].toSorted(),
    );
    assert.deepEqual(await removeOrphans(layout, registry), []);
    for (const repo of [kept, record]) {
      const tree = await ground.workTreeOf(repo);
      assert.equal(await ground.git(tree, "status", "--porcelain"), "");
    }
  });
});
