/** Refreshes of real stores from real remotes. */

import assert from "node:assert/strict";
import { aheadBehind } from "../git/user_git_dir.ts";
import { fetchHistory } from "./history.ts";
import { userGitDirOf } from "./owner.ts";
import { refreshStore } from "./refresh.ts";
import { type Ground, listTree, onGround } from "./testing.ts";
import type { RepoRecord } from "./types.ts";

function refresh(ground: Ground, record: RepoRecord, repos: readonly RepoRecord[] = [record]) {
  return refreshStore(record, ground.layout, { repos: () => repos });
}

/** As `refresh`, which must succeed; how many refs of the repository changed. */
async function refreshed(ground: Ground, record: RepoRecord): Promise<number | undefined> {
  const { failure, unpublished, changes } = await refresh(ground, record);
  assert.deepEqual([failure, [...unpublished]], [null, []]);
  return changes.get(record.id);
}

/** A commit on a remote, which has a work tree. */
async function commitOn(ground: Ground, remote: string, subject: string): Promise<string> {
  await Deno.writeTextFile(`${remote}/file`, `${subject}\n`);
  await ground.git(remote, "commit", "-qam", subject);
  return (await ground.git(remote, "rev-parse", "HEAD")).trim();
}

/** One that is mounted with its history, and the work tree of its user. */
async function whole(
  ground: Ground,
  remote: string,
): Promise<{ record: RepoRecord; tree: string }> {
  const record = await ground.add(remote);
  assert.equal((await fetchHistory(record, ground.layout)).fetchResult, "ok");
  return { record, tree: await ground.workTreeOf(record) };
}

Deno.test("refresh: nothing new is no fetch and no change", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const { record } = await whole(ground, remote);
    const { userGitDir } = ground.layout.repo(record.id);
    const before = await listTree(userGitDir);
    const result = await refresh(ground, record);
    assert.deepEqual([result.failure, result.fetched], [null, false]);
    assert.equal(result.changes.get(record.id), 0);
    assert.deepEqual(await listTree(userGitDir), before);
    // Known already: the users' directories are not even looked at.
    const { remote: known } = result;
    const again = await refreshStore(record, ground.layout, { repos: () => [], known });
    assert.deepEqual([again.failure, again.remote], [null, known]);
    await commitOn(ground, remote, "four");
    const last = await refreshStore(record, ground.layout, { repos: () => [record], known });
    assert.deepEqual([last.fetched, last.changes.get(record.id)], [true, 1]);
    assert.notEqual(last.remote, known);
  });
});

Deno.test("refresh: commits, branches and tags come; what is the user's stays", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const { record, tree } = await whole(ground, remote);
    await ground.git(tree, "tag", "mine");
    await ground.git(tree, "tag", "way");
    const [head, index] = [
      await ground.git(tree, "rev-parse", "HEAD", "light"),
      await Deno.readFile(`${ground.layout.repo(record.id).userGitDir}/index`),
    ];
    const four = await commitOn(ground, remote, "four");
    await ground.git(remote, "branch", "-D", "feature/x");
    await ground.git(remote, "branch", "other", "HEAD~2");
    await ground.git(remote, "tag", "-f", "light", "HEAD");
    for (const tag of ["mine", "new", "way/there"]) await ground.git(remote, "tag", tag);
    const result = await refresh(ground, record);
    assert.deepEqual([result.failure, result.fetched, [...result.unpublished]], [null, true, []]);
    assert.equal(result.changes.get(record.id), 3);
    const refs = await ground.git(tree, "for-each-ref", "--format=%(refname)", "refs/remotes");
    assert.deepEqual(refs.trim().split("\n"), [
      "refs/remotes/origin/HEAD",
      // As after `git fetch`.
      "refs/remotes/origin/feature/x",
      "refs/remotes/origin/main",
      "refs/remotes/origin/other",
    ]);
    assert.equal(
      (await ground.git(tree, "rev-parse", "origin/main", "new")).trim(),
      `${four}\n${four}`,
    );
    assert.equal(await ground.git(tree, "rev-parse", "HEAD", "light"), head);
    assert.equal(
      (await ground.git(tree, "rev-parse", "mine", "HEAD")).split("\n")[0],
      head.split("\n")[0],
    );
    assert.equal(await ground.git(tree, "tag", "-l", "way*"), "way\n");
    assert.deepEqual(
      await Deno.readFile(`${ground.layout.repo(record.id).userGitDir}/index`),
      index,
    );
    assert.deepEqual(await aheadBehind(userGitDirOf(record, ground.layout)), {
      ahead: 0,
      behind: 1,
    });
    assert.equal(await refreshed(ground, record), 0);
    await ground.git(tree, "fsck", "--full");
  });
});

Deno.test("refresh: a rewritten branch, and one that becomes a folder", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const { record, tree } = await whole(ground, remote);
    await ground.git(remote, "reset", "-q", "--hard", "HEAD~1");
    await commitOn(ground, remote, "another three");
    await ground.git(remote, "branch", "-D", "feature/x");
    await ground.git(remote, "branch", "feature/x/y");
    // The remote's HEAD is another branch from now on; git fetch leaves origin/HEAD alone too.
    await ground.git(remote, "symbolic-ref", "HEAD", "refs/heads/feature/x/y");
    await refreshed(ground, record);
    assert.deepEqual(await aheadBehind(userGitDirOf(record, ground.layout)), {
      ahead: 1,
      behind: 1,
    });
    assert.match(await ground.git(tree, "status", "-sb"), /ahead 1, behind 1/);
    assert.match(await ground.git(tree, "branch", "-r"), /origin\/feature\/x\/y/);
    assert.match(await ground.git(tree, "symbolic-ref", "refs/remotes/origin/HEAD"), /main/);
  });
});

Deno.test("refresh: a remote that is gone is a failure that says so, until it is back", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const { record, tree } = await whole(ground, remote);
    await Deno.rename(remote, `${remote}.gone`);
    const { failure, fetched } = await refresh(ground, record);
    assert.match(failure?.message ?? "", /^Cannot fetch from file:.*no git repository there/);
    assert.equal(fetched, false);
    assert.equal(await ground.git(tree, "log", "-1", "--format=%s", "origin/main"), "three\n");
    await Deno.rename(`${remote}.gone`, remote);
    assert.equal(await refreshed(ground, record), 0);
  });
});

Deno.test("refresh: a user's lock puts their refs off, and nobody else's", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const { record, tree } = await whole(ground, remote);
    const second = await ground.add(remote);
    const { userGitDir } = ground.layout.repo(record.id);
    await commitOn(ground, remote, "four");
    await Deno.mkdir(`${userGitDir}/refs/remotes/origin`, { recursive: true });
    await Deno.writeTextFile(`${userGitDir}/refs/remotes/origin/main.lock`, "");
    const result = await refresh(ground, record, [record, second]);
    assert.equal(result.failure, null);
    assert.deepEqual([...result.unpublished.keys()], [record.id]);
    assert.equal(result.changes.get(second.id), 1);
    await Deno.remove(`${userGitDir}/refs/remotes/origin/main.lock`);
    assert.equal(await refreshed(ground, record), 1);
    assert.equal(await ground.git(tree, "log", "-1", "--format=%s", "origin/main"), "four\n");
  });
});

Deno.test("refresh: a history that is not here is fetched whole", async () => {
  await onGround(async (ground) => {
    const record = await ground.add(await ground.makeRemote());
    const result = await refresh(ground, record);
    assert.deepEqual([result.failure, result.history], [null, "full"]);
    const tree = await ground.workTreeOf(record);
    assert.equal(await ground.git(tree, "log", "--format=%s"), "three\ntwo\none\n");
  });
});

Deno.test("refresh: with a depth, the mounted branch grows, and stays shallow", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const record = await ground.add(remote, { depth: 1 });
    const tree = await ground.workTreeOf(record);
    const { userGitDir } = ground.layout.repo(record.id);
    const { gitDir } = ground.layout.store(record.storeId);
    const shallow = await Deno.readTextFile(`${userGitDir}/shallow`);
    assert.equal(await refreshed(ground, record), 0);
    await commitOn(ground, remote, "four");
    await commitOn(ground, remote, "five");
    await ground.git(remote, "branch", "other", "HEAD~2");
    await ground.git(remote, "tag", "late");
    assert.equal(await refreshed(ground, record), 1);
    assert.equal(
      await ground.git(tree, "log", "--format=%s", "origin/main"),
      "five\nfour\nthree\n",
    );
    assert.match(await ground.git(tree, "status", "-sb"), /\[behind 2\]/);
    assert.equal(await Deno.readTextFile(`${userGitDir}/shallow`), shallow);
    assert.equal(await Deno.readTextFile(`${gitDir}/shallow`), shallow);
    assert.equal(await ground.git(tree, "tag"), "");
    // Rewritten: it comes, and nothing is broken.
    await ground.git(remote, "reset", "-q", "--hard", "HEAD~3");
    await commitOn(ground, remote, "rewritten");
    assert.equal(await refreshed(ground, record), 1);
    assert.match(await ground.git(tree, "log", "--format=%s", "origin/main"), /^rewritten\ntwo\n/);
    assert.equal(await ground.git(tree, "log", "--format=%s"), "three\n");
    await ground.git(tree, "fsck", "--full");
    // The branch is gone: what is here stays.
    await ground.git(remote, "checkout", "-q", "other");
    await ground.git(remote, "branch", "-D", "main");
    assert.equal(await refreshed(ground, record), 0);
  });
});

Deno.test("refresh: with a depth, ends of history that a later mount made are known to all", async () => {
  await onGround(async (ground) => {
    const remote = await ground.makeRemote();
    const first = await ground.add(remote, { depth: 1 });
    const deepened = await ground.add(remote, { depth: 1 });
    const trees = [await ground.workTreeOf(first), await ground.workTreeOf(deepened)] as const;
    for (const subject of ["four", "five", "six"]) await commitOn(ground, remote, subject);
    // Its owner has fetched all of it, to which no end is to be put.
    await ground.git(trees[1], "fetch", "-q", "--unshallow");
    const third = await ground.add(remote, { depth: 1 });
    await commitOn(ground, remote, "seven");
    const result = await refresh(ground, first, [first, deepened, third]);
    assert.deepEqual([result.failure, [...result.unpublished]], [null, []]);
    const thirdTree = await ground.workTreeOf(third);
    const subjects = async (tree: string) =>
      (await ground.git(tree, "log", "--format=%s", "origin/main")).trim().split("\n").join();
    // Not asked of the remote, which is a promisor: that would be the network behind `git status`.
    await Deno.rename(remote, `${remote}.gone`);
    assert.equal(await subjects(trees[0]), "seven,six");
    assert.equal(await subjects(trees[1]), "seven,six,five,four,three,two,one");
    assert.equal(await subjects(thirdTree), "seven,six");
  });
});
