/** `--single-branch` beside `git clone --single-branch`: what both have, then and later. */

import assert from "node:assert/strict";
import type { Oid } from "../git/oid.ts";
import { readCommit } from "../git/store.ts";
import type { AcquireRequest } from "./acquire.ts";
import { fetchHistory } from "./history.ts";
import { userGitDirOf } from "./owner.ts";
import { refreshStore } from "./refresh.ts";
import { type Ground, onGround } from "./testing.ts";
import type { RepoRecord } from "./types.ts";

/** A remote with a branch of its own history, and a tag on it. */
async function makeRemote(ground: Ground): Promise<string> {
  const remote = await ground.makeRemote();
  await ground.git(remote, "switch", "-q", "--orphan", "other");
  await ground.git(remote, "commit", "-q", "--allow-empty", "-m", "other");
  await ground.git(remote, "tag", "-a", "-m", "o", "on-other");
  await ground.git(remote, "switch", "-q", "main");
  await ground.git(remote, "tag", "-a", "-m", "tip", "tip");
  return remote;
}

async function commit(ground: Ground, remote: string, branch: string, name: string) {
  await ground.git(remote, "switch", "-q", branch);
  await ground.git(remote, "commit", "-q", "--allow-empty", "-m", name);
  await ground.git(remote, "tag", "-a", "-m", name, name);
  await ground.git(remote, "switch", "-q", "main");
}

interface Pair {
  readonly clone: string;
  readonly record: RepoRecord;
}

/** Both, with all the history that they are to have. */
async function pair(
  ground: Ground,
  remote: string,
  request: Partial<AcquireRequest>,
): Promise<Pair> {
  const clone = `${ground.dir}/clone`;
  const flags = [
    ...(request.branch === undefined ? [] : [`--branch=${request.branch}`]),
    ...(request.depth === undefined ? [] : [`--depth=${request.depth}`]),
  ];
  await ground.git("/", "clone", "-q", "--single-branch", ...flags, `file://${remote}`, clone);
  const record = await ground.add(`file://${remote}`, { ...request, singleBranch: true });
  assert.equal((await fetchHistory(record, ground.layout)).failure, null);
  return { clone, record };
}

async function compare(ground: Ground, { clone, record }: Pair): Promise<string> {
  const { gitDir } = userGitDirOf(record, ground.layout);
  const both = async (...args: string[]) => {
    const ours = await ground.git("/", "--git-dir", gitDir, ...args);
    assert.equal(ours, await ground.git(clone, ...args), args.join(" "));
    return ours;
  };
  const refs = await both("for-each-ref", "--format=%(refname) %(objectname) %(symref)");
  const patterns = ["^remote\\.origin\\.(fetch|tagopt)$", "^branch\\."];
  for (const pattern of patterns) {
    const args = ["config", "--local", "--get-regexp", pattern];
    const run = (...where: string[]) => ground.git("/", ...where, ...args).catch(() => "none");
    assert.equal(await run("--git-dir", gitDir), await run("-C", clone));
  }
  await both("log", "--format=%H %s", "--all");
  await both("rev-parse", "HEAD");
  return refs;
}

/** As `git fetch` in the clone. */
async function fetchBoth(ground: Ground, { clone, record }: Pair): Promise<void> {
  await ground.git(clone, "fetch", "-q");
  const result = await refreshStore(record, ground.layout, { repos: () => [record] });
  assert.equal(result.failure, null);
  assert.deepEqual([...result.unpublished], []);
}

const CASES: [string, Partial<AcquireRequest>][] = [
  ["the remote's HEAD", {}],
  ["a branch", { branch: "feature/x" }],
  ["a branch with nothing of the others", { branch: "other" }],
  ["a depth", { depth: 2 }],
  ["a branch and a depth", { branch: "other", depth: 1 }],
  ["a tag", { branch: "v1" }],
];

for (const [what, request] of CASES) {
  Deno.test(`single branch: ${what}, as git clone and git fetch have it`, async () => {
    await onGround(async (ground) => {
      const remote = await makeRemote(ground);
      const both = await pair(ground, remote, request);
      await compare(ground, both);
      // New commits and tags here and elsewhere; a tag on what is here already; a new branch.
      await commit(ground, remote, "main", "main-2");
      await commit(ground, remote, "other", "other-2");
      await ground.git(remote, "branch", "new");
      await fetchBoth(ground, both);
      await compare(ground, both);
      await ground.git(remote, "tag", "late", "main");
      await ground.git(remote, "tag", "late-other", "other~1");
      await fetchBoth(ground, both);
      await compare(ground, both);
    });
  });
}

Deno.test("single branch: a store of its own, which has nothing else", async () => {
  await onGround(async (ground) => {
    const remote = await makeRemote(ground);
    const all = await ground.add(`file://${remote}`);
    const { record } = await pair(ground, remote, {});
    assert.notEqual(record.storeId, all.storeId);
    const { gitDir } = ground.layout.store(record.storeId);
    const has = (commit: string) => readCommit(gitDir, commit as Oid).then(() => true, () => false);
    const [other, first] = (await ground.git(remote, "rev-parse", "other", "main~2")).split("\n");
    assert.deepEqual([await has(other as string), await has(first as string)], [false, true]);
    assert.equal(
      (await ground.add(`file://${remote}`, { singleBranch: true })).storeId,
      record.storeId,
    );
  });
});

Deno.test("single branch: of a commit, and of a ref that is no branch, only that", async () => {
  await onGround(async (ground) => {
    const remote = await makeRemote(ground);
    const oid = (await ground.git(remote, "rev-parse", "main~1")).trim();
    await ground.git(remote, "update-ref", "refs/pull/1/head", oid);
    for (const branch of [oid, "refs/pull/1/head"]) {
      const record = await ground.add(`file://${remote}`, { branch, singleBranch: true });
      assert.equal((await fetchHistory(record, ground.layout)).failure, null);
      const { gitDir } = userGitDirOf(record, ground.layout);
      const git = (...args: string[]) => ground.git("/", "--git-dir", gitDir, ...args);
      assert.equal(
        await git("for-each-ref", "--format=%(refname)", "refs/heads", "refs/remotes"),
        "",
      );
      assert.equal((await git("rev-list", "HEAD")).split("\n")[0], oid);
      assert.equal((await git("rev-list", "--count", "HEAD")).trim(), "2");
      await assert.rejects(git("config", "remote.origin.fetch"));
      const { failure } = await refreshStore(record, ground.layout, { repos: () => [record] });
      assert.equal(failure, null);
    }
  });
});
